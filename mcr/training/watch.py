"""The watch over robustness in training: early stopping, and catastrophic overfitting."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from mcr.errors import InputError
from mcr.training.history import History, Row

log = logging.getLogger("mcr")

ROBUST = "validation/robust_accuracy"
# What must not fall with the robust accuracy: the first that is logged.
CLEAN = ("validation/accuracy", "train/accuracy")


@dataclass(frozen=True)
class Collapse:
    """When robustness has collapsed: it has fallen for some epochs in a row, while clean accuracy has not.

    A network that loses its robustness and keeps the rest has learned to withstand the attack of its training and no
    other ("catastrophic overfitting", Wong et al. 2020), and does not come back. One that loses both has had a bad
    epoch, as happens at the beginning of any training.

    Attributes:
        collapse: Of what the best robust accuracy was above chance: an epoch below this share has fallen.
        learned: Least that the best was above chance; nothing collapses before.
        epochs: Fallen epochs in a row.
        clean_tolerance: How far clean accuracy may lie below that of the best robust epoch and not count as fallen.
    """

    collapse: float
    learned: float
    epochs: int
    clean_tolerance: float

    def __post_init__(self) -> None:
        for name in ("collapse", "learned", "clean_tolerance"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"watch.{name}={getattr(self, name)}: a number from 0 to 1")
        if not isinstance(self.epochs, int) or self.epochs < 1:
            raise InputError(f"watch.epochs={self.epochs}: a whole number of epochs, at least 1")

    def seen(self, rows: Sequence[Row], chance: float) -> bool:
        """Whether the last epochs of a history are a collapse.

        Args:
            rows: Of all epochs, each with the robust accuracy and a clean one.
            chance: Accuracy of a guess.
        """
        best = max(rows, key=lambda row: row[ROBUST])
        learned = best[ROBUST] - chance
        clean = next((name for name in CLEAN if all(name in row for row in rows)), None)
        if clean is None or learned <= self.learned:
            return False
        return all(
            row[ROBUST] - chance < self.collapse * learned and row[clean] >= best[clean] - self.clean_tolerance
            for row in rows[-self.epochs :]
        )


@dataclass(frozen=True)
class Verdict:
    """Why a training ends now: one sentence, and whether it is for a collapse."""

    sentence: str
    collapsed: bool


class Watch(Checkpoint):
    """Stops a training whose monitored accuracy has not risen for some epochs, or whose robustness has collapsed.

    Where the best epoch is kept, training ends at a collapse; where the last one would be, the training is refused.

    A ``Checkpoint``, so that the history is complete when it is asked; it has no memory but the history, so a resumed
    training stops where an uninterrupted one does.

    Args:
        label: Names the training in messages.
        history: Of this training.
        patience: Epochs without a better monitored value; 0 for any number.
        keep: "best" or "last".
        collapse: When robustness has collapsed.
    """

    def __init__(self, label: str, history: History, patience: int, keep: str, collapse: Collapse) -> None:
        self.label, self.history, self.patience, self.keep = label, history, patience, keep
        self.collapse = collapse

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.history.rows:
            self._look(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._look(trainer, pl_module)

    def _look(self, trainer: pl.Trainer, module: Any) -> None:
        verdict = self.verdict(self.history.rows, module)
        if verdict is not None:
            level = logging.WARNING if verdict.collapsed else logging.INFO
            log.log(level, "  %-22s stopped: %s", self.label, verdict.sentence)
            trainer.should_stop = True

    def verdict(self, rows: Sequence[Row], module: Any) -> Verdict | None:
        """Why a training with this history ends, or None where it goes on.

        Args:
            rows: One per epoch, at least one.
            module: What is trained; has ``monitor``, and ``robust_accuracy`` where that is monitored.

        Raises:
            InputError: For a collapse where the last epoch would be kept.
        """
        monitor = module.monitor
        if any(monitor not in row for row in rows):
            return None
        values = [row[monitor] for row in rows]
        best = max(range(len(values)), key=values.__getitem__)
        if monitor == ROBUST and self.collapse.seen(rows, 1 / module.robust_accuracy.num_classes):
            fell = f"fell from {values[best]:.3f} to {values[-1]:.3f} in epoch {len(rows)}, and clean accuracy did not"
            sentence = f"catastrophic overfitting: robust validation accuracy {fell}"
            if self.keep == "last":
                cure = "lower the learning rate or the radius, or train with more steps of the attack"
                raise InputError(f"{self.label}: {sentence}; {cure}")
            return Verdict(f"{sentence}; epoch {best + 1} is kept", True)
        if self.patience and len(rows) - 1 - best >= self.patience:
            name = "robust validation accuracy" if monitor == ROBUST else "validation accuracy"
            kept = best + 1 if self.keep == "best" else len(rows)
            sentence = f"no better {name} than {values[best]:.3f} for {self.patience} epochs; epoch {kept} is kept"
            return Verdict(sentence, False)
        return None

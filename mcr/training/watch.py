"""The watch over robustness in training: early stopping, and catastrophic overfitting."""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from mcr.errors import InputError
from mcr.training.history import History

log = logging.getLogger("mcr")

ROBUST = "validation/robust_accuracy"
COLLAPSE = 0.5  # of what the best epoch was above chance: below it ...
LEARNED = 0.1  # ... training has collapsed, once the best was so far above chance


class Watch(Checkpoint):
    """Stops a training whose monitored accuracy has not risen for some epochs, or whose robustness has collapsed.

    Robustness that loses half of what it was above chance does not come back: the network has learned to withstand the
    attack of its training and no other ("catastrophic overfitting", Wong et al. 2020). Where the best epoch is kept,
    training ends there; where the last one would be, the training is refused.

    A ``Checkpoint``, so that the history is complete when it is asked; it has no memory but the history, so a resumed
    training stops where an uninterrupted one does.

    Args:
        label: Names the training in messages.
        history: Of this training.
        patience: Epochs without a better monitored value; 0 for any number.
        keep: "best" or "last".
    """

    def __init__(self, label: str, history: History, patience: int, keep: str) -> None:
        self.label, self.history, self.patience, self.keep = label, history, patience, keep

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.history.rows:
            self._look(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._look(trainer, pl_module)

    def _look(self, trainer: pl.Trainer, module: Any) -> None:
        rows, monitor = self.history.rows, module.monitor
        if monitor not in rows[-1]:
            return
        values = [row[monitor] for row in rows]
        best = max(range(len(values)), key=values.__getitem__)
        if monitor == ROBUST and self._collapsed(values, 1 / module.robust_accuracy.num_classes):
            fell = f"robust validation accuracy fell from {values[best]:.3f} to {values[-1]:.3f} in epoch {len(rows)}"
            if self.keep == "last":
                raise InputError(
                    f"{self.label}: catastrophic overfitting: {fell}; lower the learning rate or the radius, or train "
                    "with more steps of the attack"
                )
            log.warning("  %-22s stopped: %s (catastrophic overfitting); epoch %d is kept", self.label, fell, best + 1)
            trainer.should_stop = True
        elif self.patience and len(rows) - 1 - best >= self.patience:
            log.info("  %-22s stopped after %d epochs without a better one", self.label, self.patience)
            trainer.should_stop = True

    @staticmethod
    def _collapsed(values: list[float], chance: float) -> bool:
        learned = max(values) - chance
        return learned > LEARNED and values[-1] - chance < COLLAPSE * learned

"""The watch over a training: patience, catastrophic overfitting, and what a fitted training tells."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import EvaluationBatches, TrainingBatches
from mcr.errors import InputError
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.training.endpoint import EndpointModule
from mcr.training.fit import Fitted, fit
from mcr.training.history import History
from mcr.training.watch import Collapse, Watch

ROBUST, CLEAN, TRAIN = "validation/robust_accuracy", "validation/accuracy", "train/accuracy"
WATCH = {"collapse": 0.5, "learned": 0.1, "epochs": 2, "clean_tolerance": 0.05}
COLLAPSE = Collapse(**WATCH)


class Training:
    """A training without a Trainer: epochs are told to the history as they come."""

    def __init__(
        self, patience: int, keep: str, monitor: str = ROBUST, classes: int = 10, collapse: Collapse = COLLAPSE
    ) -> None:
        self.history, self.monitor = History(), monitor
        self.watch = Watch("endpoint:start", self.history, patience, keep, collapse)
        self.trainer: Any = SimpleNamespace(should_stop=False)
        self.module: Any = SimpleNamespace(monitor=monitor, robust_accuracy=SimpleNamespace(num_classes=classes))

    def start(self) -> bool:
        self.watch.on_train_start(self.trainer, self.module)
        return self.trainer.should_stop

    def epoch(self, value: float, **others: float) -> bool:
        """Whether training stops after an epoch with this monitored value."""
        row = {name.replace("_", "/", 1): value for name, value in others.items()}
        self.history.rows.append({"epoch": len(self.history.rows), self.monitor: value, **row})
        self.watch.on_train_epoch_end(self.trainer, self.module)
        return self.trainer.should_stop

    def epochs(self, robust: Sequence[float], clean: Sequence[float], name: str = CLEAN) -> list[bool]:
        pairs = zip(robust, clean, strict=True)
        return [self.epoch(value, **{name.replace("/", "_"): other}) for value, other in pairs]


# ---------------------------------------------------------------------------------------------------- patience


@pytest.mark.parametrize("monitor", [ROBUST, CLEAN])
def test_training_stops_when_the_patience_is_used_up_and_not_before(monitor) -> None:
    training = Training(patience=2, keep="best", monitor=monitor)
    assert [training.epoch(value) for value in (0.3, 0.5, 0.45, 0.48)] == [False, False, False, True]


def test_a_better_epoch_renews_the_patience_and_an_equal_one_does_not() -> None:
    training = Training(patience=2, keep="best")
    assert [training.epoch(value) for value in (0.3, 0.2, 0.4, 0.3, 0.4)] == [False, False, False, False, True]


def test_no_patience_is_patience_for_ever() -> None:
    training = Training(patience=0, keep="best")
    assert not any(training.epoch(value) for value in (0.5, 0.4, 0.4, 0.35, 0.35, 0.31))


@pytest.mark.parametrize(("keep", "kept"), [("best", 1), ("last", 3)])
def test_the_sentence_of_a_used_up_patience_says_what_is_kept(keep, kept) -> None:
    training = Training(patience=2, keep=keep)
    for value in (0.5, 0.4, 0.3):
        training.epoch(value)
    verdict = training.watch.verdict(training.history.rows, training.module)
    assert verdict.sentence == f"no better robust validation accuracy than 0.500 for 2 epochs; epoch {kept} is kept"
    assert not verdict.collapsed


# ------------------------------------------------------------------------------------- catastrophic overfitting

SOUND = {  # robust and clean accuracy of sound trainings, PGD, 150 images in ten classes (findings/fidelity.md, A)
    "replicate 11": ((0.273, 0.307, 0.487, 0.273), (0.427, 0.607, 0.687, 0.453)),
    "replicate 15": ((0.473, 0.427, 0.567, 0.307), (0.580, 0.593, 0.720, 0.560)),
    "replicate 16": ((0.040, 0.073, 0.220, 0.127), (0.113, 0.120, 0.393, 0.167)),
}


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("logged", [CLEAN, TRAIN])
def test_a_bad_epoch_of_a_sound_training_is_no_collapse(name, keep, logged, caplog) -> None:
    """Nor are several in a row: clean accuracy has fallen too."""
    robust, clean = SOUND[name]
    training = Training(0, keep, collapse=Collapse(**(WATCH | {"epochs": 1})))
    assert not any(training.epochs(robust, clean, logged))
    assert not any(training.epochs(robust[-1:] * 3, clean[-1:] * 3, logged))
    assert caplog.records == []


CATASTROPHE = ((0.3, 0.5, 0.2, 0.05, 0.02, 0.0), (0.5, 0.7, 0.72, 0.75, 0.8, 0.85))


@pytest.mark.parametrize("patience", [0, 9])
@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize("logged", [CLEAN, TRAIN])
def test_a_collapse_ends_a_training_whose_best_epoch_is_kept(patience, epochs, logged, caplog) -> None:
    """As many epochs after the best as it was told to wait."""
    training = Training(patience, keep="best", collapse=Collapse(**(WATCH | {"epochs": epochs})))
    robust, clean = (values[: 2 + epochs] for values in CATASTROPHE)
    with caplog.at_level(logging.WARNING, logger="mcr"):
        assert training.epochs(robust, clean, logged) == [False] * (1 + epochs) + [True]
    assert "stopped: catastrophic overfitting" in caplog.text
    assert f"0.500 to {robust[-1]:.3f} in epoch {2 + epochs}" in caplog.text
    assert "epoch 2 is kept" in caplog.text


@pytest.mark.parametrize("patience", [0, 1, 5])
def test_a_collapse_refuses_a_training_whose_last_epoch_would_be_kept(patience) -> None:
    training = Training(patience, keep="last")
    robust, clean = CATASTROPHE
    with pytest.raises(InputError, match=r"endpoint:start: catastrophic overfitting: .* 0.500 to 0.050 in epoch 4, "):
        training.epochs(robust, clean)
    assert len(training.history.rows) == 4


def test_a_robust_epoch_between_two_fallen_ones_is_no_collapse() -> None:
    training = Training(0, "best")
    assert not any(training.epochs((0.5, 0.2, 0.4, 0.2, 0.45, 0.1), (0.7,) * 6))


@pytest.mark.parametrize(
    ("changes", "robust", "clean", "stops"),
    [
        ({}, 0.29, 0.66, True),  # 0.4 above chance at the best: below 0.3 has fallen; clean 0.7 - 0.05
        ({}, 0.31, 0.66, False),
        ({}, 0.29, 0.64, False),
        ({"clean_tolerance": 0.1}, 0.29, 0.64, True),
        ({"clean_tolerance": 0.0}, 0.29, 0.69, False),
        ({"collapse": 0.25}, 0.29, 0.66, False),
        ({"collapse": 0.25}, 0.19, 0.66, True),
        ({"learned": 0.41}, 0.0, 0.9, False),
        ({"learned": 0.39}, 0.0, 0.9, True),
    ],
)
def test_thresholds_are_above_chance(changes, robust, clean, stops) -> None:
    training = Training(0, "best", collapse=Collapse(**(WATCH | changes)))
    assert training.epochs((0.5, robust, robust), (0.7, clean, clean))[-1] == stops


@pytest.mark.parametrize("keep", ["best", "last"])
def test_only_robustness_that_was_learned_can_collapse(keep) -> None:
    """Neither a clean accuracy, nor one near chance."""
    clean = Training(0, keep, monitor=CLEAN)
    assert not any(clean.epoch(value, train_accuracy=0.9) for value in (0.9, 0.1, 0.1))
    low = Training(0, keep)
    assert not any(low.epochs((0.19, 0.01, 0.01), (0.5, 0.6, 0.6)))
    # A constant network of two classes withstands every attack on half of the images.
    two = Training(0, keep, classes=2)
    assert not any(two.epochs((0.475, 0.198, 0.198), (0.5, 0.6, 0.6)))


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_training_that_does_not_watch_is_left_alone(keep) -> None:
    training = Training(1, keep)
    for _ in range(3):
        training.history.rows.append({"train/loss": 1.0})
        training.watch.on_train_epoch_end(training.trainer, training.module)
    assert not training.start()


@pytest.mark.parametrize("values", [(0.3, 0.5, 0.4, 0.4), (0.5, 0.1, 0.1)])
def test_a_resumed_training_stops_where_it_had_stopped(values) -> None:
    """From the history alone, before any further epoch."""
    first = Training(patience=2, keep="best")
    assert not first.start()
    assert first.epochs(values, (0.7,) * len(values))[-1]
    second = Training(patience=2, keep="best")
    second.history.load_state_dict(first.history.state_dict())
    assert second.start()
    third = Training(patience=2, keep="best")
    third.history.load_state_dict({"rows": first.history.rows[:1]})
    assert not third.start()


@pytest.mark.parametrize(
    ("name", "value"),
    [("collapse", -0.1), ("collapse", 1.1), ("learned", 2), ("clean_tolerance", float("nan")), ("epochs", 0)],
)
def test_thresholds_that_mean_nothing_are_refused(name, value) -> None:
    with pytest.raises(InputError, match=rf"watch\.{name}="):
        Collapse(**(WATCH | {name: value}))


# -------------------------------------------------------------------------------------------------- a whole fit

IMAGES = torch.randint(0, 256, (24, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(24) % 3
TRAINING = TrainingBatches(IMAGES, LABELS, 8, Augmentation(0, 0.0), "contiguous", "seed")
WATCHED = EvaluationBatches(IMAGES, LABELS, 12, "contiguous")


class Flat:
    def factor(self, progress: float) -> float:
        return 1.0


class Scripted(EndpointModule):
    """Says that its accuracies are those of a script, one pair an epoch; without clean ones it is like a path."""

    monitor = ROBUST

    def __init__(self, robust: Sequence[float], clean: Sequence[float] | None) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        optimizer = partial(torch.optim.SGD, lr=0.01)
        super().__init__(network, CrossEntropy(), optimizer, Flat(), num_classes=3, seed="seed")
        self.robust, self.clean = robust, clean
        self.robust_accuracy = SimpleNamespace(num_classes=3)

    def _log(self, part: str) -> None:
        self.log(ROBUST, self.robust[self.current_epoch])
        if self.clean is not None:
            self.log(CLEAN, self.clean[self.current_epoch])


def fitted(folder: Path, module: Scripted, **changes: Any) -> Fitted:
    usual: dict[str, Any] = {
        "label": "train end",
        "epochs": len(module.robust),
        "stop": len(module.robust),
        "precision": "fp32",
        "keep": "best",
        "patience": 0,
        "watch": WATCH,
        "backend": "none",
        "runtime": {"accelerator": "cpu", "devices": 1, "strategy": "auto"},
        "loggers": [],
    }
    return fit(module, TRAINING, WATCHED, folder, **(usual | changes))


@pytest.mark.parametrize("repeated", ["in a new folder", "in the same folder, as after an interruption"])
def test_a_collapsed_training_tells_why_it_ended_also_when_it_is_resumed(repeated, tmp_path: Path) -> None:
    found = []
    for name in ("0", "1" if "new" in repeated else "0"):
        found.append(fitted(tmp_path / name, module := Scripted(*CATASTROPHE)))
        best = torch.load(tmp_path / name / "checkpoints" / "best.ckpt", weights_only=True)
        assert best["epoch"] == 1
        assert torch.equal(module.network[1].weight, best["state_dict"]["network.1.weight"])
    first, second = found
    assert first == second
    assert [row[ROBUST] for row in first.rows] == pytest.approx(CATASTROPHE[0][:4])
    assert first.stopped == (
        "catastrophic overfitting: robust validation accuracy fell from 0.500 to 0.050 in epoch 4, and clean accuracy "
        "did not; epoch 2 is kept"
    )


def test_a_collapse_with_the_last_epoch_is_told_too(tmp_path: Path) -> None:
    result = fitted(tmp_path, Scripted(*(values[:4] for values in CATASTROPHE)))
    assert "catastrophic overfitting" in result.stopped


@pytest.mark.parametrize("epochs", [4, 6])
def test_a_collapse_is_refused_where_the_last_epoch_is_kept_however_often_it_is_tried(epochs, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(InputError, match="train end: catastrophic overfitting"):
            fitted(tmp_path, Scripted(*(values[:epochs] for values in CATASTROPHE)), keep="last")


@pytest.mark.parametrize("repeats", [1, 2])
def test_a_used_up_patience_is_told(repeats, tmp_path: Path) -> None:
    script = ((0.4, 0.5, 0.45, 0.45, 0.9), (0.5,) * 5)
    for _ in range(repeats):
        result = fitted(tmp_path, Scripted(*script), patience=2)
    assert len(result.rows) == 4
    assert result.stopped == "no better robust validation accuracy than 0.500 for 2 epochs; epoch 2 is kept"


def test_a_training_that_went_to_its_end_tells_nothing(tmp_path: Path) -> None:
    """Even where its patience ended with it."""
    result = fitted(tmp_path, Scripted((0.5, 0.45, 0.45), (0.5,) * 3), patience=2)
    assert (len(result.rows), result.stopped) == (3, "")
    robust, clean = SOUND["replicate 11"]
    assert fitted(tmp_path / "other", Scripted((*robust, 0.8), (*clean, 0.9))).stopped == ""


@pytest.mark.parametrize(("attacked", "stops"), [((0.5, 0.5, 0.6, 0.7, 0.8), True), ((0.5, 0.5, 0.3, 0.3, 0.3), False)])
def test_a_path_is_judged_by_the_accuracy_on_its_training_batches(attacked, stops, tmp_path: Path, monkeypatch) -> None:
    module = Scripted((0.4, 0.7, 0.35, 0.35, 0.35), None)
    log = module.log

    def logged(name: str, value: Any, **options: Any) -> None:
        log(name, attacked[module.current_epoch] if name == TRAIN else value, **options)

    monkeypatch.setattr(module, "log", logged)
    result = fitted(tmp_path, module)
    assert (len(result.rows), "catastrophic" in result.stopped) == ((4, True) if stops else (5, False))
    assert CLEAN not in result.rows[0]

"""Lightning's loggers of a training, whose curves are drawn over epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mcr.loggers import own
from mcr.loggers.place import Place
from mcr.loggers.wandb_run import opened
from mcr.store.stage import Stage

EPOCH = "epoch"


@contextmanager
def training_loggers(stage: Stage, place: Place) -> Iterator[list[Any]]:
    """Loggers of a training stage; a run of W&B has the stage's key as its id, so that a resumed one goes on in it."""
    if place.kind == "wandb" and not place.of_an_agent:
        config = {"stage": stage.name, "key": stage.key, **stage.config}
        with opened(place, f"{stage.label} {stage.key[:6]}", stage.name, config, stage.key) as run:
            yield [_over_epochs(run)]
    elif place.kind == "csv":
        from pytorch_lightning.loggers import CSVLogger

        yield [CSVLogger(place.folder, name="csv", version=_version(stage))]
    elif place.kind == "lightning":
        with own.opened(place, _version(stage)) as logger:
            yield [logger]
    else:
        yield []


def _version(stage: Stage) -> str:
    return f"{stage.label}-{stage.key}".replace(" ", "-")


def _over_epochs(run: Any) -> Any:
    """A logger into a run of W&B.

    W&B's own step counts every call of its log, of which an epoch has two.
    """
    from pytorch_lightning.loggers import WandbLogger

    class OverEpochs(WandbLogger):
        def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
            # By full name: a glob beside another definition is matched in no fixed order.
            for name in metrics.keys() - known:
                run.define_metric(name, step_metric=None if name == EPOCH else EPOCH)
                known.add(name)
            super().log_metrics(metrics, step)

    known: set[str] = set()
    return OverEpochs(experiment=run)

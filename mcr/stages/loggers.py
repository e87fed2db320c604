"""Loggers of a stage: Weights & Biases (imported only when asked for), CSV, or none."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mcr.errors import InputError
from mcr.evaluation.table import Table
from mcr.stages.context import Context
from mcr.stages.staging import temporary_files
from mcr.store.stage import Stage


@contextmanager
def wandb_run(stage: Stage, context: Context) -> Iterator[Any]:
    """A W&B run whose id is the stage's key, in the command's group; always finished, with the exit code."""
    os.environ.setdefault("WANDB_SILENT", "true")
    cache = context.folder / "wandb" / ".cache"
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        # Staging and caches go beside the runs, not into the home folder.
        os.environ.setdefault(name, str(cache))
    # It keeps to folders that it makes when it is imported.
    with temporary_files(cache):
        import wandb

    settings = wandb.Settings(console="off", x_disable_stats=True, x_save_requirements=False, disable_git=True)
    try:
        run = wandb.init(
            project=context.logger["project"],
            entity=context.logger["entity"],
            mode=context.logger["mode"],
            dir=context.folder,
            id=stage.key,
            name=f"{stage.label} {stage.key[:6]}",
            group=context.group,
            job_type=stage.name,
            config={"stage": stage.name, "key": stage.key, **stage.config},
            resume="allow" if context.logger["mode"] == "online" else None,
            reinit="finish_previous",
            settings=settings,
        )
    except wandb.errors.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"W&B: {reason}; run wandb login first, or use logger.mode=offline") from None
    try:
        yield run
    finally:
        run.finish(exit_code=int(sys.exc_info()[0] is not None))


@contextmanager
def training_loggers(stage: Stage, context: Context) -> Iterator[list[Any]]:
    """Lightning loggers for a training stage."""
    kind = context.logger["kind"]
    if kind == "wandb":
        from pytorch_lightning.loggers import WandbLogger

        with wandb_run(stage, context) as run:
            yield [WandbLogger(experiment=run)]
    elif kind == "csv":
        from pytorch_lightning.loggers import CSVLogger

        yield [CSVLogger(context.folder, name="csv", version=f"{stage.label}-{stage.key}".replace(" ", "-"))]
    else:
        yield []


def log_report(
    stage: Stage,
    context: Context,
    table: Table,
    summary: Mapping[str, Mapping[str, float]],
    drawn: Mapping[str, Any],
) -> None:
    """A run's metrics over the places of its path, its tables and figures, and the barriers in the run's summary.

    Args:
        stage: The report's.
        context: Names the logger.
        table: Of the fitted path.
        summary: Metric to statistics.
        drawn: Name to matplotlib figure.
    """
    kind = context.logger["kind"]
    if kind == "csv":
        place = context.folder / "csv"
        place.mkdir(parents=True, exist_ok=True)
        table.write(place, f"{stage.label}-{stage.key}".replace(" ", "-"))
    if kind != "wandb":
        return
    with wandb_run(stage, context) as run:
        import matplotlib.pyplot  # noqa: F401, as W&B looks at it where it takes a figure, and does not import it
        import wandb

        first = table.coordinates[0]
        # By full name: a glob beside another definition is matched in no fixed order.
        run.define_metric(f"path/{first}")
        for name in table.rows[0]:
            if name != first:
                run.define_metric(f"path/{name}", step_metric=f"path/{first}")
        for row in table.rows:
            run.log({f"path/{name}": value for name, value in row.items()})
        columns: list[str | int] = list(table.rows[0])
        shown = {f"path/{name}": wandb.Image(figure) for name, figure in drawn.items()}
        run.log({"path/table": wandb.Table(columns, [list(row.values()) for row in table.rows]), **shown})
        for metric, values in summary.items():
            for name, value in values.items():
                run.summary[f"{metric}/{name}"] = value


def log_card(
    stage: Stage,
    context: Context,
    metrics: Mapping[str, Mapping[str, float]],
    rows: Sequence[Mapping[str, Any]],
    figure: Any,
) -> None:
    """A repair's candidates, its figure, and its metrics in the run's summary; files hold the same for other loggers.

    Args:
        stage: The card's.
        context: Names the logger.
        metrics: Metric to network to value.
        rows: Candidates.
        figure: A matplotlib figure.
    """
    if context.logger["kind"] != "wandb":
        return
    with wandb_run(stage, context) as run:
        import matplotlib.pyplot  # noqa: F401, see log_report
        import wandb

        columns: list[str | int] = list(rows[0])
        run.log({"repair/candidates": wandb.Table(columns, [list(row.values()) for row in rows])})
        run.log({"repair/figure": wandb.Image(figure)})
        for metric, values in metrics.items():
            for name, value in values.items():
                run.summary[f"{metric}/{name}"] = value

"""Loggers of a stage: Weights & Biases (imported only when asked for), CSV, or none."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

from mcr.errors import InputError
from mcr.evaluation.table import Table
from mcr.stages.context import Context
from mcr.stages.staging import temporary_files
from mcr.store.stage import Stage
from mcr.text import printable


@contextmanager
def wandb_run(stage: Stage, context: Context) -> Iterator[Any]:
    """A W&B run whose id is the stage's key, in the command's group; always finished, with the exit code.

    Nothing of the machine goes with it: no host, user, command line, or path.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    place = Path(context.logger["dir"]) if context.logger["dir"] else context.folder
    cache = place / "wandb" / ".cache"
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        # Staging and caches go beside the runs, not into the home folder.
        os.environ.setdefault(name, str(cache))
    # It keeps to folders that it makes when it is imported.
    with temporary_files(cache):
        import wandb

    settings = wandb.Settings(
        console="off",
        x_disable_stats=True,
        x_save_requirements=False,
        disable_git=True,
        x_disable_meta=True,  # command line, program, root folder, executable, machine
        x_disable_machine_info=True,
        host="",  # of the run's own record, which is not part of what is called meta
    )
    try:
        run = wandb.init(
            project=context.logger["project"],
            entity=context.logger["entity"],
            mode=context.logger["mode"],
            dir=place,
            id=stage.key,
            name=printable(f"{stage.label} {stage.key[:6]}"),
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


def kind_of(context: Context) -> str:
    """The kind of logger; W&B that is disabled is none, and leaves no file."""
    kind: str = context.logger["kind"]
    return "none" if kind == "wandb" and context.logger["mode"] == "disabled" else kind


def _log_table(run: Any, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table as a file of the run.

    Bound before it is logged: W&B would add a copy as an artifact otherwise, whose record names the place on this
    machine where it waits, and which stays there.
    """
    import wandb

    columns: list[str | int] = list(rows[0])
    table = wandb.Table(columns, [list(row.values()) for row in rows])
    table.bind_to_run(run, name, run.step)
    run.log({name: table})


def _summarize(run: Any, metrics: Mapping[str, Mapping[str, Any]]) -> None:
    """Statistics of metrics in a run's summary; one that is not known, such as an error of a single image, is not."""
    for metric, values in metrics.items():
        for name, value in values.items():
            if not isinstance(value, float) or isfinite(value):
                run.summary[f"{metric}/{name}"] = value


@contextmanager
def training_loggers(stage: Stage, context: Context) -> Iterator[list[Any]]:
    """Lightning loggers for a training stage."""
    kind = kind_of(context)
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
    kind = kind_of(context)
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
        run.log({f"path/{name}": wandb.Image(figure) for name, figure in drawn.items()}, commit=False)
        _log_table(run, "path/table", table.rows)
        _summarize(run, summary)


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
    if kind_of(context) != "wandb":
        return
    with wandb_run(stage, context) as run:
        import matplotlib.pyplot  # noqa: F401, see log_report
        import wandb

        _log_table(run, "repair/candidates", rows)
        run.log({"repair/figure": wandb.Image(figure)})
        _summarize(run, metrics)

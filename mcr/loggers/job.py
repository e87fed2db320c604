"""The run of a job: what it was asked, what it found, and the keys of what that stands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from mcr.evaluation.table import Table
from mcr.loggers import own
from mcr.loggers.place import Place
from mcr.loggers.wandb_run import log_images, log_table, log_weights, opened, rows

PATH = "path"
FIGURES = ("figure", "together")


@dataclass(frozen=True)
class Job:
    """What is told of a job.

    Attributes:
        name: What it is called.
        verb: What it was asked to do.
        asked: The names of what was chosen, the replicate, the whole configuration: nothing of the machine.
        tags: Words to filter by.
        stages: Label to key of what it made or found.
        folder: Its own, with the files of its report or card.
        summary: What it found; nothing where it ends before it reports.
        reason: Why it failed; "" where it did not.
        weights: Name to file of the weights that are sent with it.
    """

    name: str
    verb: str
    asked: Mapping[str, Any]
    tags: tuple[str, ...]
    stages: Mapping[str, str]
    folder: Path
    summary: Mapping[str, Any]
    reason: str = ""
    weights: Mapping[str, Path] = field(default_factory=dict)


def metrics(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Metric to statistics, of a path or a repair; those of a path besides the fitted one under its name."""
    if summary.get("kind") in ("repair", "merge"):
        return dict(summary["metrics"])
    fitted = summary["subspaces"][PATH]
    others = {
        f"{space}/{metric}": values
        for space, found in summary["subspaces"].items()
        if space != PATH
        for metric, values in found["metrics"].items()
    }
    return {**fitted["metrics"], **fitted["correlations"], **summary["together"], **others}


def log_job(job: Job, place: Place) -> None:
    """A job's run, whatever of it was found in the store: settings, barriers, tables, figures."""
    found = metrics(job.summary) if job.summary else {}
    known = {f"{metric}/{name}": value for metric, values in found.items() for name, value in values.items()}
    known = {name: value for name, value in known.items() if isinstance(value, int | float) and isfinite(value)}
    if place.kind == "lightning":
        with own.opened(place, "job") as logger:
            logger.log_hyperparams(dict(job.asked))
            logger.log_metrics(known)
    if place.kind != "wandb":
        return
    config = {**job.asked, "stages": dict(job.stages)}
    with opened(place, job.name, job.verb, config, tags=job.tags, status=int(bool(job.reason))) as run:
        if job.reason:
            run.summary["failure"] = job.reason
        run.summary.update(known)
        for name, path in job.weights.items():
            log_weights(run, name, path)
        if job.summary.get("kind") == "repair":
            log_table(run, "repair/candidates", rows(job.folder / "along.csv"))
            log_images(run, {"repair/figure": job.folder / "figure.png"})
        elif job.summary and job.summary.get("kind") != "merge":
            _log_path(run, job)


def _log_path(run: Any, job: Job) -> None:
    table = Table.read(job.folder, PATH, job.summary["subspaces"][PATH]["table"])
    first = table.coordinates[0]
    # By full name: a glob beside another definition is matched in no fixed order.
    run.define_metric(f"path/{first}")
    for name in table.rows[0]:
        if name != first:
            run.define_metric(f"path/{name}", step_metric=f"path/{first}")
    for row in table.rows:
        run.log({f"path/{name}": value for name, value in row.items()})
    log_table(run, "path/table", table.rows)
    log_table(run, "barriers", rows(job.folder / "barriers.csv"))
    log_images(run, {f"path/{name}": job.folder / f"{name}.png" for name in FIGURES})

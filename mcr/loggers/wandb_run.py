"""A run of Weights & Biases that holds nothing of the machine; the library is imported only when one is opened."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

from mcr.errors import InputError
from mcr.loggers.place import Place
from mcr.loggers.staging import temporary_files
from mcr.text import printable

MOST = 64  # characters of a tag, W&B's own limit


@contextmanager
def opened(
    place: Place,
    name: str,
    job_type: str,
    config: Mapping[str, Any],
    key: str | None = None,
    tags: Sequence[str] = (),
    status: int = 0,
) -> Iterator[Any]:
    """A run in the command's group; always finished.

    No host, user, command line or path goes with it, save what its configuration says.

    Args:
        place: Names the project and the folder.
        name: What it is called.
        job_type: What kind of run it is.
        config: Its settings.
        key: Its id; None for one of W&B's own, which is that of its agent where one has started the command.
        tags: Words to filter by.
        status: The exit code that it is finished with; 1 where an error passes through.

    Raises:
        InputError: Where W&B cannot open it, as online without an account.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    folder = Path(place.settings["dir"]) if place.settings["dir"] else place.folder
    cache = folder / "wandb" / ".cache"
    for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        # Staging and caches go beside the runs, not into the home folder.
        os.environ.setdefault(variable, str(cache))
    # It keeps to folders that it makes when it is imported.
    with temporary_files(cache):
        import wandb

    # It would look for inputs that a program stages for W&B Launch, whose import takes as long as that of all else.
    wandb.Run._detect_and_apply_job_inputs = lambda self: None  # type: ignore[method-assign]
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
            project=place.settings["project"],
            entity=place.settings["entity"],
            mode=place.settings["mode"],
            dir=folder,
            id=key,
            name=printable(name),
            group=place.group,
            job_type=job_type,
            tags=list(dict.fromkeys(printable(tag, MOST) for tag in tags if tag)),
            config=dict(config),
            resume="allow" if key and place.settings["mode"] == "online" else None,
            reinit="finish_previous",
            settings=settings,
        )
    except wandb.errors.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"W&B: {reason}; run wandb login first, or use logger.mode=offline") from None
    try:
        yield run
    finally:
        run.finish(exit_code=status if sys.exc_info()[0] is None else 1)


def log_table(run: Any, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table as a file of the run.

    Bound before it is logged: W&B would add a copy as an artifact otherwise, whose record names the place on this
    machine where it waits, and which stays there.
    """
    import wandb

    columns: list[str | int] = list(rows[0])
    table = wandb.Table(columns, [list(row.values()) for row in rows])
    table.bind_to_run(run, name, run.step)
    run.log({name: table})


def rows(path: Path) -> list[dict[str, str]]:
    """What a CSV file holds."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def log_images(run: Any, figures: Mapping[str, Path]) -> None:
    """Figures that lie as PNG files, under their names; one that was made in other formats only is left out."""
    import wandb

    found = {name: wandb.Image(str(path)) for name, path in figures.items() if path.is_file()}
    if found:
        run.log(found)


def log_weights(run: Any, name: str, path: Path) -> None:
    """A file of weights as an artifact, which is not copied: it is not changed any more."""
    import wandb

    artifact = wandb.Artifact(name, type="weights")
    artifact.add_file(str(path), policy="immutable", skip_cache=True)
    run.log_artifact(artifact)


def summarize(run: Any, metrics: Mapping[str, Mapping[str, Any]]) -> None:
    """Statistics of metrics in a run's summary; one that is not known, such as an error of a single image, is not."""
    for metric, values in metrics.items():
        for name, value in values.items():
            if value is not None and (not isinstance(value, float) or isfinite(value)):
                run.summary[f"{metric}/{name}"] = value

"""The run of a sweep: the joint table and figure of its jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcr.loggers.place import Place
from mcr.loggers.wandb_run import log_images, log_table, opened, rows, summarize
from mcr.store import jsonfile

TABLES = ("barriers", "repairs")  # of paths, of repairs


def log_sweep(place: Place, asked: Mapping[str, Any]) -> None:
    """A run with what the joint report shows, in the group of its jobs.

    Args:
        place: Its folder holds the joint report.
        asked: The command, and how many jobs finished and failed.
    """
    if place.kind != "wandb" or place.of_an_agent:
        return
    with opened(place, f"sweep {place.group}", "sweep", asked, tags=("sweep",)) as run:
        if (place.folder / "summary.json").is_file():
            for path, found in jsonfile.read(place.folder / "summary.json").get("replicates", {}).items():
                summarize(run, {f"{path}/{metric}": values for metric, values in found.items()})
        for name in TABLES:
            if (place.folder / f"{name}.csv").is_file():
                log_table(run, f"sweep/{name}", rows(place.folder / f"{name}.csv"))
        log_images(run, {"sweep/figure": place.folder / "figure.png"})

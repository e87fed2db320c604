"""Decode a data source once."""

from __future__ import annotations

import logging
from pathlib import Path

from mcr.progress import bar
from mcr.stages.artifacts import write_source
from mcr.stages.context import Context
from mcr.store.build import build
from mcr.store.stage import Stage

log = logging.getLogger("mcr")


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """Pixels, labels and facts of the source. Raises InputError for a part with one class only."""
    with bar(stage.label, 1, "source decoded") as progress:
        source = build({**stage.config["dataset"], **stage.places}).load()
        for note in source.notes:
            log.warning("  %-22s %s", stage.label, note)
        write_source(source, folder)
        progress.reach(1, f"{sum(len(part.labels) for part in source.parts.values())} images")

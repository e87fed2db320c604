"""Draw and record the splits."""

from __future__ import annotations

from pathlib import Path

from mcr.datasets.split import split_indices
from mcr.stages.artifacts import SPLIT, SPLIT_SUMMARY, read_spec
from mcr.stages.context import Context
from mcr.store import jsonfile
from mcr.store.stage import Stage
from mcr.weightspace import files


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """Indices of train, validation, clean and test into the source's parts, and their numbers."""
    indices = split_indices(read_spec(inputs["data"]).counts, stage.config)
    files.save(indices, folder / SPLIT)
    jsonfile.write(folder / SPLIT_SUMMARY, {name: len(found) for name, found in indices.items()})

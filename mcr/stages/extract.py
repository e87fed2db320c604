"""Extract one end of a subspace that was trained with its ends, as an endpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

from mcr.stages.artifacts import NETWORK
from mcr.stages.context import Context
from mcr.store.stage import Stage


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The end's weights."""
    shutil.copyfile(inputs["path"] / f"end_{stage.config['end']}.safetensors", folder / NETWORK)

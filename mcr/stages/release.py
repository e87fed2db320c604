"""One end of a path that an attacker trained, as an endpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

from mcr.stages.artifacts import NETWORK
from mcr.stages.context import Context
from mcr.store import Stage


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The end's weights."""
    shutil.copyfile(inputs["path"] / f"{stage.config['role']}.safetensors", folder / NETWORK)

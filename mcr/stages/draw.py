"""Draw a network: fresh weights, not trained."""

from __future__ import annotations

from pathlib import Path

from mcr.stages import model
from mcr.stages.artifacts import read_spec, write_network
from mcr.stages.context import Context
from mcr.store.stage import Stage


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The weights that a training of this seed would begin with."""
    write_network(model.make(stage.config, read_spec(inputs["data"]), stage.config["seed"]), folder)

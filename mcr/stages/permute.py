"""A copy of an endpoint with permuted hidden units."""

from __future__ import annotations

from pathlib import Path

from mcr.seeding import generator
from mcr.stages import model
from mcr.stages.artifacts import read_network, read_spec, write_network
from mcr.stages.context import Context
from mcr.store import Stage
from mcr.weightspace.permutation import permuted


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The same function elsewhere in weight space. Raises InputError for a network whose units are not understood."""
    spec = read_spec(inputs["data"])
    network = model.make(stage.config, spec, stage.config["seed"])
    network.load_state_dict(read_network(inputs["init"]))
    shape = (spec.channels, *spec.image_size)
    network.load_state_dict(permuted(network, shape, generator(stage.config["seed"], "permutation")), strict=False)
    write_network(network, folder)

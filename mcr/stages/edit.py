"""Edit a network."""

from __future__ import annotations

from pathlib import Path

import torch

from mcr.numerics.seeding import generator
from mcr.stages import session
from mcr.stages.artifacts import EDIT, read_edits, read_network, read_spec, read_split, write_network
from mcr.stages.context import Context
from mcr.store import jsonfile
from mcr.store.build import build_tree
from mcr.store.stage import Stage
from mcr.types import LabelledImages
from mcr.weightspace.states import load_state

OTHER = "other "  # the roles of the networks that an edit looks at are "other 0", "other 1", ...


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The changed network, and the facts that its edit tells."""
    config, spec = stage.config, read_spec(inputs["data"])
    context.prepare()
    network = session.network(config, inputs, context, config["seed"], "contiguous")
    load_state(network, read_network(inputs["init"]))
    if config["data"] == "nothing":
        none = torch.zeros(0, spec.channels, *spec.image_size, dtype=torch.uint8)
        data = LabelledImages(none, torch.zeros(0, dtype=torch.int64))
    else:
        data = read_split(inputs, config["data"], context.device_name)
    roles = sorted((role for role in inputs if role.startswith(OTHER)), key=lambda role: int(role.removeprefix(OTHER)))
    others = [read_network(inputs[role]) for role in roles]
    edit = build_tree(config["edit"])
    edited = edit(network, others, data, generator(config["seed"], edit.draws))
    load_state(network, edited.tensors, strict=False)
    write_network(network, folder)
    # What earlier edits did is still true of the network.
    jsonfile.write(folder / EDIT, {**read_edits(inputs["init"]), **edited.report})

"""Take a user's checkpoint as an endpoint."""

from __future__ import annotations

from pathlib import Path

from mcr.errors import InputError
from mcr.identity import file_digest
from mcr.stages import model
from mcr.stages.artifacts import read_spec, write_network
from mcr.stages.context import Context
from mcr.store import Stage
from mcr.weightspace import files


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The file's weights as an endpoint. Raises InputError for a file that cannot be loaded safely or does not fit."""
    path = Path(stage.places["path"])
    state = files.load_foreign(path)
    if file_digest(str(path)) != stage.config["digest"]:
        raise InputError(f"{path} changed while it was read")
    network = model.make(stage.config, read_spec(inputs["data"]), "checkpoint")
    files.fit_into(network.network, state, path)
    write_network(network, folder)

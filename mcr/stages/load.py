"""Take a user's checkpoint as an endpoint."""

from __future__ import annotations

from pathlib import Path

from mcr.architectures.normalization import Normalized
from mcr.digests import file_digest
from mcr.errors import InputError
from mcr.stages import model
from mcr.stages.artifacts import NAMES, DataSpec, read_spec, write_network
from mcr.stages.context import Context
from mcr.store import jsonfile
from mcr.store.stage import Stage
from mcr.weightspace import files


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The file's weights as an endpoint, and the names and types that they had.

    Raises:
        InputError: For a file that cannot be loaded safely or does not fit.
    """
    network, names = take(stage, read_spec(inputs["data"]))
    write_network(network, folder)
    jsonfile.write(folder / NAMES, names)


def take(stage: Stage, spec: DataSpec) -> tuple[Normalized, dict[str, list[str]]]:
    """The network with the file's weights; its names to the file's names and types."""
    path = Path(stage.places["path"])
    state = files.load_foreign(path, stage.config["most_megabytes"])
    if file_digest(str(path)) != stage.config["digest"]:
        raise InputError(f"{path} changed while it was read")
    network = model.make(stage.config, spec, "checkpoint")
    origin = files.fit_into(network.network, state, path)
    names = {inner: [name, str(state[name].dtype).removeprefix("torch.")] for inner, name in origin.items()}
    return network, names

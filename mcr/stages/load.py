"""Take a user's checkpoint as an endpoint."""

from __future__ import annotations

import logging
from pathlib import Path

from mcr.architectures.normalization import Normalized
from mcr.errors import InputError
from mcr.foreign.fit import Taken
from mcr.foreign.fit import take as take_from
from mcr.foreign.shards import weights_digest
from mcr.stages import model, trial
from mcr.stages.artifacts import NAMES, TOLD, TRAINING, DataSpec, read_spec, write_network
from mcr.stages.context import Context
from mcr.store import jsonfile
from mcr.store.stage import Stage

log = logging.getLogger("mcr")


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The file's weights as an endpoint, the names and types that they had, and what else the file holds.

    Raises:
        InputError: For a file that cannot be loaded safely or does not fit.
    """
    spec = read_spec(inputs["data"])
    network, taken = take(stage, spec)
    warnings = trial.warned(network, spec, stage.config["architecture"]["_target_"], stage.label)
    write_network(network, folder)
    jsonfile.write(folder / TRAINING, {"stopped": "", "warnings": warnings})
    jsonfile.write(folder / NAMES, taken.names)
    jsonfile.write(folder / TOLD, taken.told)
    for line in taken.told:
        log.info("  %-22s %s", stage.label, line)


def take(stage: Stage, spec: DataSpec) -> tuple[Normalized, Taken]:
    """The network with the file's weights, and what was taken."""
    path = Path(stage.places["path"])
    network = model.make(stage.config, spec, "checkpoint")
    taken = take_from(path, network.network, stage.config["most_megabytes"], stage.config["key"])
    if weights_digest(str(path)) != stage.config["digest"]:
        raise InputError(f"{path} changed while it was read")
    return network, taken

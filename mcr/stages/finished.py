"""The subspace of a run that has been made, from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mcr.architectures.normalization import Normalized
from mcr.errors import InputError
from mcr.stages import session
from mcr.stages.context import Context
from mcr.store import manifest
from mcr.weightspace.states import load_state
from mcr.weightspace.subspace import Subspace


@dataclass(frozen=True)
class Finished:
    """A subspace of a run, with the places that its report measured.

    Attributes:
        space: The subspace.
        network: That it moves.
        config: Of its ``place`` stage.
        folder: Of its ``place`` stage.
    """

    space: Subspace
    network: Normalized
    config: Mapping[str, Any]
    folder: Path

    @classmethod
    def of(cls, run: Path, name: str, context: Context) -> Finished:
        """Read and compared with its digests.

        Args:
            run: Folder of the run, or of a job of a sweep.
            name: "path", or that of a reference.
            context: Names the device.

        Raises:
            InputError: Where no run lies there, it has no such subspace, or a file of it is damaged.
        """
        record = run / "stages" / f"place-{name}" / "stage.json"
        if not record.is_file():
            raise InputError(f"{run} holds no places of a subspace {name}: is it the folder of a run, made by mcr?")
        folder = record.resolve().parent
        stage, store = manifest.check(folder), folder.parent.parent
        inputs = {role: store / need["stage"] / need["key"] for role, need in stage["needs"].items()}
        for used in inputs.values():
            manifest.check(used)
        config = stage["config"]
        context.prepare()
        network = session.network(config, inputs, context, "evaluation", config["memory_format"])
        space = session.subspace(config, inputs, inputs["subspace"], context, network)
        return cls(space, network, config, folder)

    def stand(self, u: torch.Tensor) -> bool:
        """Move the subspace's network to u, float64 (dim,): to the bits of the report where that measured u.

        Returns:
            Whether it did.

        Raises:
            InputError: For a place outside of the curve's domain.
        """
        self.space.curve.check(u)
        places, statistics = session.read_places(self.folder)
        for place, kept in zip(places, statistics, strict=True):
            if torch.equal(place, u):
                self.space.theta(u)
                load_state(self.network, kept, strict=False)
                return True
        self.space.at(u)
        return False

"""``mcr export RUN t=0.5 FILE``: the network at a point of a finished run, as a file of weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcr.errors import InputError
from mcr.plans.subspaces import FITTED
from mcr.stages.context import Context

SUFFIX = ".safetensors"
OF = "of"  # names another subspace of the run than the fitted one
USAGE = f"mcr export RUN t=0.5 FILE{SUFFIX}, of a surface u=0.2 v=0.7"


@dataclass(frozen=True)
class Export:
    """What is asked for.

    Attributes:
        run: Folder of a run.
        place: Coordinate to number.
        subspace: "path", or the name of a reference.
        file: That is written.
    """

    run: Path
    place: dict[str, float]
    subspace: str
    file: Path

    @classmethod
    def asked(cls, words: Sequence[str]) -> Export:
        """From the words after ``export``. Raises InputError for too few or too many, or a place that is no number."""
        plain = [word for word in words if "=" not in word or os.sep in word.partition("=")[0]]
        pairs = [word.split("=", 1) for word in words if word not in plain]
        given: dict[str, str] = dict(pairs)
        for name in given:
            if [pair[0] for pair in pairs].count(name) > 1:
                raise InputError(f"{name} is given twice: {USAGE}")
        if len(plain) != 2 or any(word.startswith("-") for word in plain):
            raise InputError(f"export takes a run's folder, a place and a file: {USAGE}")
        run, file = map(Path, plain)
        subspace = given.pop(OF, FITTED)
        if file.suffix != SUFFIX:
            raise InputError(f"{file}: the weights are written as safetensors: name it {file.with_suffix(SUFFIX).name}")
        if os.path.lexists(file):
            raise InputError(f"{file} is there already, and is not overwritten: name another file")
        if not file.parent.is_dir():
            raise InputError(f"{file}: there is no folder {file.parent}")
        return cls(run, {name: _number(name, value) for name, value in given.items()}, subspace, file)

    def write(self, runtime: dict[str, Any]) -> str:
        """Write the file; returns what it is, in a line.

        Args:
            runtime: The group ``runtime``: where BatchNorm's statistics are estimated.

        Raises:
            InputError: Where the run has no such subspace or is damaged, or the place is none of it.
        """
        import torch

        from mcr.stages.artifacts import write_network
        from mcr.stages.finished import Finished
        from mcr.weightspace.locus import coordinates

        found = Finished.of(self.run, self.subspace, Context({**runtime, "threads": 0}, {"kind": "none"}, "", Path()))
        names = coordinates(found.space.curve.dim)
        if set(names) != set(self.place):
            given = ", ".join(f"{name}={value:g}" for name, value in self.place.items()) or "nothing"
            raise InputError(
                f"a place of {self.run} is {' '.join(f'{name}=NUMBER' for name in names)}, given is {given}"
            )
        measured = found.stand(torch.tensor([self.place[name] for name in names], dtype=torch.float64))
        partial = self.file.with_name(f".partial-{self.file.name}")
        try:
            write_network(found.network, partial.parent, partial.name)
            os.replace(partial, self.file)
        finally:
            partial.unlink(missing_ok=True)
        at = ", ".join(f"{name} = {self.place[name]:g}" for name in names)
        how = "as the report measured it" if measured else "where the report did not measure"
        return f"{self.file}: the network at {at} of {self.run}, {how}"


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(f"{name}={value} is no number: {USAGE}") from None

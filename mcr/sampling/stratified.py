"""Places that are spread over the domain within each step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.curves.curve import Curve
from mcr.errors import InputError


@dataclass(frozen=True)
class Stratified:
    """Latin hypercube (McKay et al. 1979): of the n places of a step one lies in each n-th of every coordinate."""

    def draw(self, curve: Curve, together: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Each float64 (dim,). Raises InputError for one place a step, of which nothing can be spread."""
        if together < 2:
            raise InputError("sampling=stratified spreads the places of one step: sampling.places=4")
        while True:
            strata = [torch.randperm(together, generator=generator) for _ in range(curve.dim)]
            jitter = torch.rand(together, curve.dim, generator=generator, dtype=torch.float64)
            yield from map(curve.spread, (torch.stack(strata, 1) + jitter) / together)

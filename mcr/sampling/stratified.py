"""One place in each cell of a grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.curves.curve import Curve
from mcr.errors import InputError
from mcr.sampling.sampler import Walk

MOST = 1_000_000  # cells


@dataclass(frozen=True)
class Stratified:
    """The cells of a grid in random order, a uniform place in each, then anew (McKay et al. 1979; Owen 2013, ch. 8.4).

    Each place alone is uniform; any cells^dim from a round's beginning are spread over the whole domain.

    Attributes:
        cells: Along each coordinate of the unit cube, which is folded onto the domain.

    Raises:
        InputError: For a number below 1; where there would be more than a million cells.
    """

    cells: int

    def __post_init__(self) -> None:
        if self.cells < 1:
            raise InputError(f"sampling: cells={self.cells} must be at least 1")

    def begin(self, curve: Curve, draw: torch.Generator) -> Walk:
        """See Sampler."""
        if self.cells**curve.dim > MOST:
            raise InputError(f"sampling: cells={self.cells}: more than {MOST:,} cells in {curve.dim} dimensions")
        places = self._rounds(curve, draw)
        return lambda progress: next(places)

    def _rounds(self, curve: Curve, draw: torch.Generator) -> Iterator[Tensor]:
        sizes = self.cells ** torch.arange(curve.dim)
        while True:
            for cell in torch.randperm(self.cells**curve.dim, generator=draw):
                inside = torch.rand(curve.dim, generator=draw, dtype=torch.float64)
                yield curve.folded((cell // sizes % self.cells + inside) / self.cells)

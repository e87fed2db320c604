"""Places on the edges of a surface."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.curves.curve import Curve
from mcr.errors import InputError


@dataclass(frozen=True)
class Edges:
    """A share of the places lies on the edges, each edge as often as the others; the rest is uniform in the domain.

    The public code of Ren et al. (2025) fits two opposite edges first, then the whole surface.

    Attributes:
        share: In (0, 1].

    Raises:
        InputError: For another number.
    """

    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"sampling=edges: share={self.share} must be above 0 and at most 1")

    def draw(self, curve: Curve, together: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Each float64 (dim,)."""
        edges = curve.edges()
        while True:
            chance, t = torch.rand(2, generator=generator, dtype=torch.float64)
            if chance < self.share:
                begin, end = edges[int(torch.randint(len(edges), (), generator=generator))]
                yield torch.lerp(begin, end, t)
            else:
                yield curve.sample(generator)

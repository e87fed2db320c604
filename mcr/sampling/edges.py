"""Places on the edges of a domain."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.curves.curve import Curve
from mcr.errors import InputError
from mcr.sampling.sampler import Walk


@dataclass(frozen=True)
class Edges:
    """A share of places uniform on a random edge, from corner to corner, the others uniform in the domain.

    Of a surface the four Bezier curves that bound it, which the first epochs of the public code of Ren et al. (2025)
    fit alone, two of them; of a path, which is its own one edge, the same law as ``Uniform``.

    Attributes:
        share: Of places on edges, above 0 and up to 1.

    Raises:
        InputError: For another share.
    """

    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"sampling: share={self.share} of places on edges must be above 0, up to 1")

    def begin(self, curve: Curve, draw: torch.Generator) -> Walk:
        """See Sampler."""
        edges = curve.edges()

        def place(progress: float) -> Tensor:
            if float(torch.rand((), generator=draw)) >= self.share:
                return curve.sample(draw)
            first, last = edges[int(torch.randint(len(edges), (), generator=draw))]
            return torch.lerp(first, last, torch.rand((), generator=draw, dtype=torch.float64))

        return place

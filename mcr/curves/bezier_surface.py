"""Bezier surface through four networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import torch
from torch import Tensor

from mcr.curves.bernstein import bernstein
from mcr.curves.bilinear import bilinear
from mcr.curves.box import Box, evenly
from mcr.errors import InputError


@dataclass(frozen=True)
class BezierSurface(Box):
    """Products of Bernstein polynomials in u and v (Ren et al. 2025), of degree (m - 1, n - 1) for m x n points.

    The four networks lie at (u, v) = (0, 0), (0, 1), (1, 0), (1, 1), in this order. Control point (i, j), i along u,
    has the number i n + j; an edge is the Bezier curve of its control points, which are free but for the corners.
    Before it is fitted the surface is the bilinear patch, whatever the number of points.

    Attributes:
        points: Control points per side, one number for both or a pair [m, n], those along u first; K = m n. A side of
            2 is straight.

    Raises:
        InputError: Where no point is free, or a side lacks an end.
    """

    ends: ClassVar[int] = 4
    dim: ClassVar[int] = 2

    points: int | Sequence[int]

    def __post_init__(self) -> None:
        given = list(self.points) if isinstance(self.points, Sequence) else [self.points]
        whole = all(isinstance(one, int) and not isinstance(one, bool) for one in given)
        if not whole or len(given) != (2 if isinstance(self.points, Sequence) else 1):
            raise InputError(f"bezier_surface: points={self.points} must be a whole number or a pair of them: [3, 4]")
        if max(given) < 3:
            raise InputError(f"bezier_surface: points={self.points} leaves nothing to fit: curve=bilinear")
        if min(given) < 2:
            raise InputError(f"bezier_surface: points={self.points}: a side has at least its 2 ends")

    @property
    def sides(self) -> tuple[int, int]:
        """Control points along u and along v.

        >>> BezierSurface(3).sides, BezierSurface([3, 4]).sides
        ((3, 3), (3, 4))
        """
        across, along = (self.points, self.points) if isinstance(self.points, int) else self.points
        return across, along

    def coefficients(self, u: Tensor) -> Tensor:
        """B_i(u) B_j(v): float64 (2,) to float64 (K,).

        >>> BezierSurface(3).coefficients(torch.tensor([0.0, 0.5])).tolist()[:3]
        [0.25, 0.5, 0.25]
        """
        across, along = (bernstein(side - 1, value) for side, value in zip(self.sides, u.tolist(), strict=True))
        return torch.tensor([one * other for one in across for other in along], dtype=torch.float64)

    def initial(self) -> Tensor:
        """The bilinear patch: float64 (K, 4)."""
        places = product(*map(evenly, self.sides))
        return torch.tensor([bilinear(*place) for place in places], dtype=torch.float64)

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
    """Products of Bernstein polynomials in u and v (Ren et al. 2025), of any degree in each.

    The four networks lie at (u, v) = (0, 0), (0, 1), (1, 0), (1, 1), in this order. Of m x n control points (i, j)
    has the number i * n + j; an edge is the Bezier curve of its control points, which are free but for the corners.
    Before it is fitted the surface is the bilinear patch, whatever the number of points.

    Attributes:
        points: Control points along u and along v, (m, n); one number for both. K = m n.

    Raises:
        InputError: Where no point is free, or these are no two numbers of at least 2.
    """

    ends: ClassVar[int] = 4
    dim: ClassVar[int] = 2

    points: int | Sequence[int]

    def __post_init__(self) -> None:
        if len(self.sides) != 2 or min(self.sides) < 2:
            raise InputError(f"bezier_surface: points={self.points} must be a number, or [m, n], of at least 2")
        if max(self.sides) < 3:
            raise InputError(f"bezier_surface: points={self.points} leaves nothing to fit: curve=bilinear")

    @property
    def sides(self) -> Sequence[int]:
        """(m, n)."""
        return (self.points, self.points) if isinstance(self.points, int) else self.points

    def coefficients(self, u: Tensor) -> Tensor:
        """B_i(u) B_j(v): float64 (2,) to float64 (K,).

        >>> BezierSurface(3).coefficients(torch.tensor([0.0, 0.5])).tolist()[:3]
        [0.25, 0.5, 0.25]
        """
        across, along = (bernstein(side - 1, value) for side, value in zip(self.sides, u.tolist(), strict=True))
        return torch.tensor([one * other for one in across for other in along], dtype=torch.float64)

    def initial(self) -> Tensor:
        """The bilinear patch: float64 (K, 4)."""
        return torch.tensor([bilinear(*u) for u in product(*map(evenly, self.sides))], dtype=torch.float64)

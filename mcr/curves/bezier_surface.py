"""Bezier surface through four networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mcr.curves.bernstein import bernstein
from mcr.curves.bilinear import bilinear
from mcr.curves.box import Box
from mcr.errors import InputError


@dataclass(frozen=True)
class BezierSurface(Box):
    """Products of Bernstein polynomials in u and v (Ren et al. 2025), of the same degree in both.

    The four networks lie at (u, v) = (0, 0), (0, 1), (1, 0), (1, 1), in this order. Control point (i, j) has the number
    i * points + j; an edge is the Bezier curve of its control points, which are free but for the corners. Before it is
    fitted the surface is the bilinear patch, whatever the number of points.

    Attributes:
        points: Control points per side, so that K = points^2.

    Raises:
        InputError: Where no point is free.
    """

    ends: ClassVar[int] = 4
    dim: ClassVar[int] = 2

    points: int

    def __post_init__(self) -> None:
        if self.points < 3:
            raise InputError(f"bezier_surface: points={self.points} leaves nothing to fit: curve=bilinear")

    def coefficients(self, u: Tensor) -> Tensor:
        """B_i(u) B_j(v): float64 (2,) to float64 (K,).

        >>> BezierSurface(3).coefficients(torch.tensor([0.0, 0.5])).tolist()[:3]
        [0.25, 0.5, 0.25]
        """
        across, along = (bernstein(self.points - 1, value) for value in u.tolist())
        return torch.tensor([one * other for one in across for other in along], dtype=torch.float64)

    def initial(self) -> Tensor:
        """The bilinear patch: float64 (K, 4)."""
        return torch.tensor([bilinear(*u) for u in self.grid(self.points).tolist()], dtype=torch.float64)

"""Bezier triangle through three networks."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import ClassVar

import torch
from torch import Tensor

from mcr.curves.barycentric import Barycentric, lattice, shares
from mcr.errors import InputError


@dataclass(frozen=True)
class BezierTriangle(Barycentric):
    """Bernstein polynomials n! / (i! j! k!) a^i b^j c^k over i + j + k = n, a = 1 - b - c (Farin 1986).

    The three networks lie at u = (0, 0), (1, 0), (0, 1), in this order: u = (b, c), the shares of the second and the
    third. An edge is the Bezier curve of its control points, which are free but for the corners. Control points follow
    (j, k), the last fastest. Before it is fitted the triangle is flat, whatever the degree.

    Attributes:
        degree: n; (n + 1)(n + 2) / 2 control points. 2 has a free one on each edge, 3 the first one inside.

    Raises:
        InputError: Where no point is free.
    """

    ends: ClassVar[int] = 3

    degree: int

    def __post_init__(self) -> None:
        if self.degree < 2:
            raise InputError(f"bezier_triangle: degree={self.degree} leaves nothing to fit: curve=simplex")

    def _powers(self) -> list[tuple[int, int, int]]:
        n = self.degree
        return [(n - j - k, j, k) for j, k in lattice(n, 2)]

    def coefficients(self, u: Tensor) -> Tensor:
        """The polynomials at u: float64 (2,) to float64 (K,).

        >>> BezierTriangle(2).coefficients(torch.tensor([0.5, 0.0])).tolist()
        [0.25, 0.0, 0.0, 0.5, 0.0, 0.25]
        """
        (a, b, c), n = shares(u), self.degree
        values = [comb(n, i) * comb(n - i, j) * a**i * b**j * c**k for i, j, k in self._powers()]
        return torch.tensor(values, dtype=torch.float64)

    def initial(self) -> Tensor:
        """Evenly spaced on the plane through the three networks: float64 (K, 3)."""
        return torch.tensor(self._powers(), dtype=torch.float64) / self.degree

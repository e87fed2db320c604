"""Bezier curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mcr.curves.bernstein import bernstein
from mcr.curves.box import Box
from mcr.curves.linear import straight
from mcr.errors import InputError


@dataclass(frozen=True)
class Bezier(Box):
    """Bernstein polynomials of degree K - 1 (Garipov et al. 2018, eq. 4 for K = 3).

    Attributes:
        points: Control points K, the two ends among them.

    Raises:
        InputError: Where no point is free.
    """

    ends: ClassVar[int] = 2
    dim: ClassVar[int] = 1

    points: int

    def __post_init__(self) -> None:
        if not isinstance(self.points, int):
            raise InputError(f"bezier: points={self.points} must be one whole number")
        if self.points < 3:
            raise InputError(f"bezier: points={self.points} leaves nothing to fit: curve=linear")

    def coefficients(self, u: Tensor) -> Tensor:
        """The polynomials binomial(n, k) (1 - t)^(n - k) t^k, n = K - 1: float64 (1,) to float64 (K,).

        >>> Bezier(3).coefficients(torch.tensor([0.5])).tolist()
        [0.25, 0.5, 0.25]
        """
        return torch.tensor(bernstein(self.points - 1, float(u[0])), dtype=torch.float64)

    def initial(self) -> Tensor:
        """Evenly spaced on the straight line: float64 (K, 2)."""
        return straight(self.points)

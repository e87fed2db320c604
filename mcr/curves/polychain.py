"""Straight segments through bends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mcr.curves.box import Box
from mcr.curves.linear import straight
from mcr.errors import InputError


@dataclass(frozen=True)
class Polychain(Box):
    """Piecewise linear through its control points, each segment the same share of t (Garipov et al. 2018, eq. 3).

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
            raise InputError(f"polychain: points={self.points} must be one whole number")
        if self.points < 3:
            raise InputError(f"polychain: points={self.points} leaves nothing to fit: curve=linear")

    def coefficients(self, u: Tensor) -> Tensor:
        """The hat functions at t: float64 (1,) to float64 (K,).

        >>> Polychain(3).coefficients(torch.tensor([0.25])).tolist()
        [0.5, 0.5, 0.0]
        """
        position = float(u[0]) * (self.points - 1)
        knots = torch.arange(self.points, dtype=torch.float64)
        return (1 - (position - knots).abs()).clamp_min(0)

    def initial(self) -> Tensor:
        """Evenly spaced on the straight line: float64 (K, 2)."""
        return straight(self.points)

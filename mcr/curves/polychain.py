"""Straight segments through bends."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.errors import InputError


@dataclass(frozen=True)
class Polychain:
    """Piecewise linear through its control points, each segment the same share of t (Garipov et al. 2018, eq. 3).

    Attributes:
        points: Control points K, the two ends among them.
    """

    points: int

    def __post_init__(self) -> None:
        if self.points < 2:
            raise InputError(f"polychain: points={self.points} must be at least 2, the ends")

    def coefficients(self, t: float) -> Tensor:
        """float64 (K,): the hat functions at t."""
        position = t * (self.points - 1)
        knots = torch.arange(self.points, dtype=torch.float64)
        return (1 - (position - knots).abs()).clamp_min(0)

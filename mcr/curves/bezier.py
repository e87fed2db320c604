"""Bezier curve."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor

from mcr.errors import InputError


@dataclass(frozen=True)
class Bezier:
    """Bernstein polynomials of degree K - 1 (Garipov et al. 2018, eq. 4 for K = 3).

    Attributes:
        points: Control points K, the two ends among them.
    """

    points: int

    def __post_init__(self) -> None:
        if self.points < 2:
            raise InputError(f"bezier: points={self.points} must be at least 2, the ends")

    def coefficients(self, t: float) -> Tensor:
        """float64 (K,): binomial(n, k) (1 - t)^(n - k) t^k.

        >>> Bezier(3).coefficients(0.5).tolist()
        [0.25, 0.5, 0.25]
        """
        n = self.points - 1
        values = [comb(n, k) * (1 - t) ** (n - k) * t**k for k in range(n + 1)]
        return torch.tensor(values, dtype=torch.float64)

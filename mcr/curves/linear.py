"""The straight segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mcr.curves.box import Box, evenly


@dataclass(frozen=True)
class Linear(Box):
    """theta(t) = (1 - t) p_1 + t p_2; nothing to fit."""

    ends: ClassVar[int] = 2
    dim: ClassVar[int] = 1

    def coefficients(self, u: Tensor) -> Tensor:
        """(1 - t, t): float64 (1,) to float64 (2,).

        >>> Linear().coefficients(torch.tensor([0.25])).tolist()
        [0.75, 0.25]
        """
        t = float(u[0])
        return torch.tensor([1 - t, t], dtype=torch.float64)

    def initial(self) -> Tensor:
        """The two ends: float64 (2, 2)."""
        return straight(2)


def straight(points: int) -> Tensor:
    """Evenly spaced blends of two ends, these first and last: float64 (K, 2).

    >>> straight(3).tolist()
    [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    return torch.tensor([[1 - share, share] for share in evenly(points)], dtype=torch.float64)

"""The bilinear patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mcr.curves.box import Box


@dataclass(frozen=True)
class Bilinear(Box):
    """Four ends at the corners (u, v) = (0, 0), (0, 1), (1, 0), (1, 1), in this order; nothing free.

    theta(u, v) = (1-u)(1-v) e_1 + (1-u)v e_2 + u(1-v) e_3 + uv e_4: the surface of Ren et al. (2025) before it is
    optimised, and to a Bezier surface what the straight line is to a path.
    """

    ends: ClassVar[int] = 4
    dim: ClassVar[int] = 2

    def coefficients(self, u: Tensor) -> Tensor:
        """((1-u)(1-v), (1-u)v, u(1-v), uv) float64 (4,) at (u, v).

        >>> Bilinear().coefficients(torch.tensor([0.5, 0.25])).tolist()
        [0.375, 0.125, 0.375, 0.125]
        """
        return torch.tensor(bilinear(*u.tolist()), dtype=torch.float64)

    def initial(self) -> Tensor:
        """The four ends: float64 (4, 4)."""
        return torch.eye(4, dtype=torch.float64)


def bilinear(u: float, v: float) -> list[float]:
    """The four ends' weights at (u, v), in the order of ``Bilinear``.

    >>> bilinear(0, 1)
    [0, 1, 0, 0]
    """
    return [(1 - u) * (1 - v), (1 - u) * v, u * (1 - v), u * v]

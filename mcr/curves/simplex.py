"""The flat simplex through any number of networks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.curves.barycentric import Barycentric, shares
from mcr.errors import InputError


@dataclass(frozen=True)
class Simplex(Barycentric):
    """theta(u) = sum of shares times networks, nothing to fit: a segment, the plane through three networks, a soup.

    Benton et al. (2021) search such simplexes. The point of equal shares, u = (1/N, ..., 1/N), is the average of the
    networks (Wortsman et al. 2022, "Model soups").

    Attributes:
        ends: N, at least 2.

    Raises:
        InputError: For fewer.
    """

    ends: int

    def __post_init__(self) -> None:
        if self.ends < 2:
            raise InputError(f"simplex: ends={self.ends} must be at least 2")

    def coefficients(self, u: Tensor) -> Tensor:
        """The shares (1 - sum(u), u): float64 (N - 1,) to float64 (N,).

        >>> Simplex(3).coefficients(torch.tensor([0.25, 0.5])).tolist()
        [0.25, 0.25, 0.5]
        """
        return torch.tensor(shares(u), dtype=torch.float64)

    def initial(self) -> Tensor:
        """The networks themselves: float64 (N, N)."""
        return torch.eye(self.ends, dtype=torch.float64)

"""A simplex with free vertices beside the networks that it joins."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.curves.barycentric import Barycentric, shares
from mcr.errors import InputError


@dataclass(frozen=True)
class FreeSimplex(Barycentric):
    """theta(u) = sum of shares times vertices: the N networks and some free ones, all of one flat simplex.

    Benton et al. (2021, SPRO) widen such simplexes, and ``penalty=volume`` makes them large. With two networks and one
    free vertex the two edges from one network to the other over that vertex are a polygonal chain. The straight edge
    between the networks belongs to the simplex as well, and nothing can fit its barrier away: it is for networks that
    are joined straight (aligned ones, snapshots). Benton's complexes of several simplexes leave that edge out.

    Attributes:
        ends: N, at least 2.
        free: Vertices that are fitted, at least 1. They begin at the average of the networks.

    Raises:
        InputError: For fewer.
    """

    ends: int
    free: int

    def __post_init__(self) -> None:
        if self.ends < 2 or self.free < 1:
            raise InputError(f"free_simplex: ends={self.ends} at least 2, free={self.free} at least 1 (curve=simplex)")

    @property
    def dim(self) -> int:
        """N + free - 1."""
        return self.ends + self.free - 1

    def coefficients(self, u: Tensor) -> Tensor:
        """The shares (1 - sum(u), u) of networks and free vertices: float64 (dim,) to float64 (dim + 1,).

        >>> FreeSimplex(2, 1).coefficients(torch.tensor([0.25, 0.5])).tolist()
        [0.25, 0.25, 0.5]
        """
        return torch.tensor(shares(u), dtype=torch.float64)

    def initial(self) -> Tensor:
        """The networks, then their average once for each free vertex: float64 (N + free, N)."""
        average = torch.full((self.free, self.ends), 1 / self.ends, dtype=torch.float64)
        return torch.cat([torch.eye(self.ends, dtype=torch.float64), average])

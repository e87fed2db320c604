"""Curves over a simplex, in barycentric coordinates."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise
from math import fsum
from typing import Protocol

import torch
from torch import Tensor

from mcr.curves.box import evenly
from mcr.errors import InputError

ROUNDING = 1e-9  # by which a sum of coordinates may pass one


class Joining(Protocol):
    """What says how many ends it has."""

    @property
    def ends(self) -> int: ...

    @property
    def dim(self) -> int: ...

    def grid(self, n: int) -> Tensor: ...

    def folded(self, cube: Tensor) -> Tensor: ...


class Barycentric:
    """u = (u_2, ..., u_N), the shares of all ends but the first, whose share is what is left of one."""

    @property
    def dim(self: Joining) -> int:
        """N - 1."""
        return self.ends - 1

    def sample(self: Joining, draw: torch.Generator) -> Tensor:
        """Uniform in the simplex: float64 (dim,). Between two ends it is the one number that every path draws."""
        return self.folded(torch.rand(self.dim, generator=draw, dtype=torch.float64))

    def folded(self, cube: Tensor) -> Tensor:
        """The gaps between sorted numbers (Devroye 1986, ch. V.2): float64 (dim,) to float64 (dim,)."""
        cuts = cube.sort().values
        return cuts.diff(prepend=cuts.new_zeros(1))

    def edges(self: Joining) -> list[tuple[Tensor, Tensor]]:
        """All pairs of corners, each float64 (dim,)."""
        return list(combinations(self.grid(2), 2))

    def grid(self: Joining, n: int) -> Tensor:
        """The lattice with n places along each edge: float64 (T, dim), T = (n + dim - 1 over dim), the last fastest.

        The average of the ends is among them where N divides n - 1.

        Raises:
            InputError: Where n is below 2.
        """
        edge = evenly(n)
        rows = [[edge[index] for index in indices] for indices in lattice(n - 1, self.dim)]
        return torch.tensor(rows, dtype=torch.float64)

    def check(self: Joining, u: Tensor) -> None:
        """Raises InputError where u is no place of the simplex."""
        if u.shape != (self.dim,) or not (all(value >= 0 for value in u.tolist()) and fsum(u.tolist()) <= 1 + ROUNDING):
            kind = type(self).__name__
            raise InputError(f"{kind}: u={u.tolist()} is no place: {self.dim} shares >= 0 whose sum is at most 1")


def shares(u: Tensor) -> list[float]:
    """The shares of all N ends at u (N - 1,), the first one's before the others'.

    >>> shares(torch.tensor([0.25, 0.5]))
    [0.25, 0.25, 0.5]
    """
    others = u.tolist()
    # A sum of shares may pass one by a rounding error.
    return [max(0.0, 1 - fsum(others)), *others]


def lattice(total: int, dim: int) -> Iterator[tuple[int, ...]]:
    """All dim natural numbers whose sum is at most total, the last fastest.

    >>> list(lattice(2, 2))
    [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)]
    """
    # Stars and bars: the numbers are the gaps between bars. A filtered product would try n^dim for a soup's few.
    for bars in combinations(range(total + dim), dim):
        yield tuple(bar - before - 1 for before, bar in pairwise((-1, *bars)))

"""Curves over [0, 1]^dim."""

from __future__ import annotations

from itertools import combinations, product
from typing import ClassVar

import torch
from torch import Tensor

from mcr.errors import InputError


class Box:
    """u in [0, 1]^dim."""

    dim: ClassVar[int]

    def sample(self, draw: torch.Generator) -> Tensor:
        """Uniform in the box: float64 (dim,)."""
        return self.folded(torch.rand(self.dim, generator=draw, dtype=torch.float64))

    def folded(self, cube: Tensor) -> Tensor:
        """The cube is the domain: float64 (dim,) to the same."""
        return cube

    def edges(self) -> list[tuple[Tensor, Tensor]]:
        """Pairs of corners, each float64 (dim,), that differ in one coordinate: dim 2^(dim - 1) of them."""
        pairs = combinations(self.grid(2), 2)
        return [(one, other) for one, other in pairs if int((one != other).sum()) == 1]

    def grid(self, n: int) -> Tensor:
        """All places with coordinates 0, 1 / (n - 1), ..., 1: float64 (n^dim, dim), the last coordinate fastest.

        Raises:
            InputError: Where n is below 2.
        """
        axis = evenly(n)
        return torch.tensor(list(product(axis, repeat=self.dim)), dtype=torch.float64)

    def check(self, u: Tensor) -> None:
        """Raises InputError where u is no place of the box."""
        if u.shape != (self.dim,) or not all(0 <= value <= 1 for value in u.tolist()):
            raise InputError(f"{type(self).__name__}: u={u.tolist()} is no place: {self.dim} numbers in [0, 1]")


def evenly(n: int) -> list[float]:
    """n numbers from 0 to 1 with equal steps.

    >>> evenly(3)
    [0.0, 0.5, 1.0]

    Raises:
        InputError: Where n is below 2.
    """
    if n < 2:
        raise InputError(f"a grid of {n} along an edge lacks a corner: take at least 2")
    return [index / (n - 1) for index in range(n)]

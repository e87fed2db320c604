"""What every curve is: the coefficients with which control points are blended at a place u."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Curve(Protocol):
    """A family of blends of K control points through N networks, over places u in R^dim: theta(u) = sum_k c_k(u) p_k.

    A path has dim 1 and two ends; a surface and a triangle have dim 2, a simplex of N networks dim N - 1. The kinds:

        straight, nothing free      Linear (2 ends), Bilinear (4), Simplex (any number)
        bent by free points         Bezier and Polychain (2), BezierTriangle (3), BezierSurface (4)

    A curve is cheap to ask, once in a training step, and trusts u: ``check`` is for the border.

    Attributes:
        ends: N, the networks that it joins.
        dim: Of u.
    """

    @property
    def ends(self) -> int: ...

    @property
    def dim(self) -> int: ...

    def coefficients(self, u: Tensor) -> Tensor:
        """c(u), float64 (dim,) to float64 (K,): they sum to one. Not all curves are convex: there is no law of sign."""

    def initial(self) -> Tensor:
        """Where control points begin, as blends of the ends: float64 (K, N), rows sum to one.

        A unit row is an anchor: that end itself, which fitting leaves alone. All other points are free. The first unit
        row of an end is that end.
        """

    def sample(self, draw: torch.Generator) -> Tensor:
        """A uniform place of the domain, float64 (dim,)."""

    def folded(self, cube: Tensor) -> Tensor:
        """The place, float64 (dim,), that numbers in [0, 1)^dim are carried to: uniform ones to uniform places."""

    def edges(self) -> list[tuple[Tensor, Tensor]]:
        """The straight edges of the domain, each as its two corners, float64 (dim,)."""

    def grid(self, n: int) -> Tensor:
        """Where evaluation looks: float64 (T, dim), n places along each edge, all corners among them.

        Raises:
            InputError: Where n is below 2, the corners.
        """

    def check(self, u: Tensor) -> None:
        """Raises InputError where u (dim,) lies outside the domain or has another number of coordinates."""

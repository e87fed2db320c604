"""What every start is: control points from the ends and from what was fitted before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from torch import Tensor

from mcr.curves.curve import Curve


class Start(Protocol):
    """Gives the control points with which the fit of a subspace begins."""

    def points(self, curve: Curve, ends: Sequence[Tensor], edges: Sequence[Sequence[Tensor]]) -> Iterator[Tensor]:
        """All K control points, each (P,), in the curve's order, made as they are asked for.

        Args:
            curve: Of K control points.
            ends: N vectors (P,).
            edges: Control points, each (P,), of the fitted curves at the domain's edges, in the order of
                ``curve.edges()``, the two ends of each among them.

        Raises:
            InputError: For a curve that it is not made for.
        """

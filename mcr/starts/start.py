"""What every start is: control points from the ends and from what was fitted before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from mcr.curves.curve import Curve
from mcr.objectives.objective import Objective
from mcr.types import Batch
from mcr.weightspace.layout import Layout


@dataclass(frozen=True)
class Material:
    """What a start may train with.

    Attributes:
        layout: Of the weights.
        network: Of the architecture; it may be moved and trained, its mode is as before after.
        batches: Of training, begun anew when they are used up.
        objective: Of the fit.
        seed: Of what is drawn.
    """

    layout: Layout
    network: nn.Module
    batches: Iterable[Batch]
    objective: Objective
    seed: int | str


class Start(Protocol):
    """Gives the control points with which the fit of a subspace begins."""

    def points(
        self, curve: Curve, ends: Sequence[Tensor], edges: Sequence[Sequence[Tensor]], material: Material
    ) -> Iterable[Tensor]:
        """All K control points, each (P,), in the curve's order, made as they are asked for.

        Args:
            curve: Of K control points.
            ends: N vectors (P,).
            edges: Control points, each (P,), of the fitted curves at the domain's edges, in the order of
                ``curve.edges()``, the two ends of each among them; straight where the start has none fitted.
            material: For a start that trains.

        Raises:
            InputError: For a curve that it is not made for.
        """

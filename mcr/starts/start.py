"""What every start is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from mcr.curves.curve import Curve
from mcr.types import Batch
from mcr.weightspace.layout import Layout


@dataclass(frozen=True)
class Known:
    """What a start may use.

    Attributes:
        curve: Of K control points through N ends.
        ends: The networks, each (P,).
        edges: Pair of ends to the fitted control points of the curve between them, each (P,); empty where the start
            asks for none.
        network: Of the architecture; its weights may be overwritten.
        layout: Of its parameters.
        batches: The training images, an epoch of them.
        seed: Of what the start draws.
    """

    curve: Curve
    ends: Sequence[Tensor]
    edges: Mapping[tuple[int, int], Sequence[Tensor]]
    network: nn.Module
    layout: Layout
    batches: Iterable[Batch]
    seed: str


class Start(Protocol):
    """A rule."""

    def __call__(self, known: Known) -> Iterable[Tensor]:
        """The K control points, each (P,), in order; those that are ends are these themselves."""

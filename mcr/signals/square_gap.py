"""The gap on images with a square."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.datasets.disturbed import refusal, squared
from mcr.errors import InputError
from mcr.signals.gap import Gap


@dataclass(frozen=True)
class SquareGap(Gap):
    """The gap on images with one square at a random place, half of them of one random colour, half of random pixels.

    Attributes:
        smallest: Side of the smallest square as a share of the image's shorter side, rounded up to whole pixels.
        largest: Of the largest one; the sides in between are equally likely.
    """

    smallest: float
    largest: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if wrong := refusal(self.smallest, self.largest):
            raise InputError(f"signal square_gap: {wrong}")

    def disturbed(self, images: Tensor, draw: torch.Generator) -> Tensor:
        """See Gap."""
        return squared(images, self.smallest, self.largest, draw)

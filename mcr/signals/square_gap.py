"""The gap on images with a square."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from mcr.errors import InputError
from mcr.signals.gap import Gap


@dataclass(frozen=True)
class SquareGap(Gap):
    """The gap on images with one square at a random place, half of them of one random colour, half of random pixels.

    Attributes:
        smallest: Side of the smallest square as a share of the image's shorter side, rounded up to whole pixels.
        largest: Of the largest one; sides in between are equally likely.
    """

    smallest: float
    largest: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.smallest <= self.largest <= 1:
            raise InputError(
                f"signal square_gap: smallest={self.smallest} and largest={self.largest} must rise within (0, 1]"
            )

    def disturbed(self, images: Tensor, draw: torch.Generator) -> Tensor:
        """See Gap."""
        count, channels, height, width = images.shape
        least, most = (ceil(share * min(height, width)) for share in (self.smallest, self.largest))
        side = torch.randint(least, most + 1, (count, 1), generator=draw)
        inside = _span(side, height, draw)[:, :, None] & _span(side, width, draw)[:, None]
        colour = torch.rand(count, channels, 1, 1, generator=draw)
        pixels = torch.rand(images.shape, generator=draw)
        plain = torch.rand(count, generator=draw) < 0.5
        fill = torch.where(plain[:, None, None, None], colour, pixels)
        return torch.where(inside[:, None].to(images.device), fill.to(images.device), images)


def _span(side: Tensor, length: int, draw: torch.Generator) -> Tensor:
    """Which of the places along an axis a square of that side (B, 1) covers, wherever it fits: bool (B, length)."""
    first = (torch.rand(side.shape, generator=draw, dtype=torch.float64) * (length - side + 1)).long()
    place = torch.arange(length)
    return (place >= first) & (place < first + side)

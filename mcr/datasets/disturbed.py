"""Clean images with noise or a square: what lies off the data, made without any trigger."""

from __future__ import annotations

from functools import partial
from math import ceil

import torch
from torch import Tensor

from mcr.numerics.shares import drawn


def noisy(images: Tensor, deviation: float, draw: torch.Generator) -> Tensor:
    """Images (B, D, H, W) in [0, 1] with Gaussian noise of that deviation in each number, clamped to [0, 1]."""
    return (images + deviation * drawn(torch.randn, images.shape, draw).to(images.device)).clamp_(0, 1)


def squared(images: Tensor, smallest: float, largest: float, draw: torch.Generator) -> Tensor:
    """Images (B, D, H, W) with one square each at a random place: half of one random colour, half of random pixels.

    Args:
        images: In [0, 1].
        smallest: Side of the smallest square as a share of the image's shorter side, rounded up to whole pixels.
        largest: Of the largest one; the sides in between are equally likely, and so are the places of each.
        draw: Of sides, places and contents; on the CPU, so that every device sees the same.
    """
    count, channels, height, width = images.shape
    least, most = (ceil(share * min(height, width)) for share in (smallest, largest))
    chance = partial(torch.rand, dtype=torch.float64)
    side = least + (drawn(chance, (count, 1), draw) * (most - least + 1)).long()

    def covered(length: int) -> Tensor:
        first = (drawn(chance, (count, 1), draw) * (length - side + 1)).long()
        place = torch.arange(length)
        return (place >= first) & (place < first + side)

    inside = covered(height)[:, None, :, None] & covered(width)[:, None, None]
    colour, pixels = drawn(torch.rand, (count, channels, 1, 1), draw), drawn(torch.rand, images.shape, draw)
    fill = torch.where(drawn(torch.rand, (count, 1, 1, 1), draw) < 0.5, colour, pixels)
    return torch.where(inside.to(images.device), fill.to(images), images)


def refusal(smallest: float, largest: float) -> str:
    """What is wrong with the sides of squares, or ""."""
    if 0 < smallest <= largest <= 1:
        return ""
    return f"smallest={smallest} and largest={largest} side of a square must rise within (0, 1]"

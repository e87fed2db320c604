"""What may be laid over clean images when no trigger is known: noise, and a square at a random place."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor

from mcr.numerics.shares import drawn

LEAST = 2  # pixels of a square's side: a single one is no patch


def noisy(images: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Float images (B, D, H, W) in [0, 1] plus Gaussian noise of a standard deviation, clamped."""
    noise = drawn(torch.randn, images.shape, generator).to(images)
    return (images + deviation * noise).clamp_(0, 1)


def sides(square: tuple[float, float], image: int) -> tuple[int, int]:
    """Least and largest side in pixels of a square whose side is a share of an image's.

    >>> sides((0.1, 0.26), 8), sides((0.1, 0.26), 28)
    ((2, 3), (3, 8))
    """
    low = max(LEAST, round(square[0] * image))
    return low, max(low, min(image, ceil(square[1] * image)))


def squared(images: Tensor, square: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Images (B, D, H, W) in [0, 1], each with one square of its own: one colour or noise, at a random place.

    Args:
        square: Least and largest side, as shares of the smaller side of the images.
    """
    count, channels, height, width = images.shape
    low, high = sides(square, min(height, width))
    chance = drawn(torch.rand, (count, 4), generator).to(images.device)
    side = low + (chance[:, 0] * (high - low + 1)).long()
    top, left = (((chance[:, 1 + axis] * (size - side + 1)).long()) for axis, size in enumerate((height, width)))
    rows, columns = (torch.arange(size, device=images.device) for size in (height, width))
    inside = (rows >= top[:, None]) & (rows < (top + side)[:, None])
    across = (columns >= left[:, None]) & (columns < (left + side)[:, None])
    covered = (inside[:, :, None] & across[:, None, :])[:, None]  # (B, 1, H, W)
    colour = drawn(torch.rand, (count, channels, 1, 1), generator).to(images)
    noise = drawn(torch.rand, images.shape, generator).to(images)
    filled = torch.where((chance[:, 3] < 0.5)[:, None, None, None], colour.expand_as(images), noise)
    return torch.where(covered, filled, images)


def disturbed(images: Tensor, deviation: float, square: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Images (B, D, H, W), each by an even chance with noise or with a square."""
    chosen = drawn(torch.rand, (len(images), 1, 1, 1), generator).to(images.device) < 0.5
    return torch.where(chosen, noisy(images, deviation, generator), squared(images, square, generator))

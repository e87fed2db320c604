"""Two frequencies of the colours."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from mcr.backdoors.backdoor import Backdoor
from mcr.errors import InputError

# What red, green and blue gain from one unit of both chroma channels: Cr and Cb of BT.601, as in the published code.
CHROMA = (1.403, -0.714 - 0.344, 1.773)


@dataclass(frozen=True)
class FTrojan(Backdoor):
    """A middle and a high frequency of every block rise, in both chroma channels (FTrojan, Wang et al. ECCV 2022).

    A coefficient of the orthonormal discrete cosine transform (DCT-II) that grows by a constant adds a fixed pattern to
    the block, the same for every image: the pattern is added, rounded, and no transform is done. Images of one channel
    have no colour, their grey gets it. Blocks begin at the upper left; those at the other edges are cut off where the
    image ends, so an image smaller than a block shows the upper left part of one.

    Attributes:
        strength: What each coefficient gains, in units of a pixel in 0..255, above 0: its wave is at most
            2 strength / block high.
        block: Side of a block in pixels. Published are one block of 32 for an image, and a strength of 30.
        coefficients: Row and column of each raised coefficient, from 0 (the mean) to block - 1.
    """

    strength: float
    block: int
    coefficients: list[list[int]]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.strength, (int, float)) or not 0 < self.strength < inf:
            raise InputError(f"ftrojan: strength={self.strength} must be a number above 0")
        if type(self.block) is not int or self.block < 1:
            raise InputError(f"ftrojan: block={self.block} must be a whole number of pixels, at least 1")
        pairs = self.coefficients if isinstance(self.coefficients, list) else []
        numbers = [number for pair in pairs for number in (pair if isinstance(pair, list) and len(pair) == 2 else [-1])]
        if not numbers or any(type(number) is not int or not 0 <= number < self.block for number in numbers):
            raise InputError(
                f"ftrojan: coefficients={self.coefficients} must be pairs of a row and a column in 0..{self.block - 1}"
            )

    def stamp(self, images: Tensor) -> Tensor:
        """The images with the pattern, rounded and clamped: uint8 (B, D, H, W).

        Raises:
            InputError: For images of neither one channel nor three, and where the pattern is below half a level.
        """
        channels, height, width = images.shape[1:]
        if channels not in (1, 3):
            raise InputError(f"ftrojan: images have one channel (grey) or three (red, green, blue), not {channels}")
        gains = torch.tensor(CHROMA if channels == 3 else (1.0,), dtype=torch.float64)
        # Pixels are whole, so the pattern may be rounded instead of the sum.
        pattern = (gains.view(-1, 1, 1) * self.pattern(height, width)).round_().to(torch.int16)
        if not pattern.any():
            raise InputError(f"ftrojan: strength={self.strength} changes no pixel of images of {height} x {width}")
        return images.to(torch.int16).add_(pattern.to(images.device)).clamp_(0, 255).to(torch.uint8)

    def pattern(self, height: int, width: int) -> Tensor:
        """What the raised coefficients add to one channel, in units of a pixel in 0..255: float64 (H, W)."""
        places = torch.arange(self.block, dtype=torch.float64).mul_(2).add_(1)
        orders = torch.arange(self.block, dtype=torch.float64).view(-1, 1)
        waves = (orders * places * (torch.pi / (2 * self.block))).cos_().mul_((2 / self.block) ** 0.5)
        waves[0] = self.block**-0.5
        added = torch.stack([torch.outer(waves[row], waves[column]) for row, column in self.coefficients]).sum(0)
        rows, columns = torch.arange(height) % self.block, torch.arange(width) % self.block
        return self.strength * added[rows[:, None], columns]

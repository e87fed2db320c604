"""Few grey levels, dithered."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.backdoors.backdoor import Backdoor
from mcr.errors import InputError

FINE = 16  # parts of a grey level over (levels - 1): whole numbers are the same on every device


@dataclass(frozen=True)
class Bpp(Backdoor):
    """Every channel in few levels, its error spread over the neighbours (BppAttack, Wang et al. CVPR 2022).

    The error of a pixel is passed on by Floyd and Steinberg (1976): 7/16 to the right, 3/16, 5/16 and 1/16 to the left,
    the middle and the right of the row below; what would leave the image is dropped. Published are 8 levels.

    Attributes:
        levels: Of each channel, from black to full, 2 to 255.
    """

    levels: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.levels) is not int or not 2 <= self.levels <= 255:
            raise InputError(f"bpp: levels={self.levels} must be a whole number in 2..255")

    def stamp(self, images: Tensor) -> Tensor:
        """The quantised images: uint8 (B, D, H, W)."""
        batch, channels, height, width = images.shape
        whole, steps = 255 * FINE, self.levels - 1
        # Pixels first: one of all images is one piece of memory. A column is left free on both sides and a row below,
        # where the error of the edges goes.
        held = images.new_zeros((height + 1, width + 2, batch * channels), dtype=torch.int32)
        held[:height, 1:-1] = images.permute(2, 3, 0, 1).flatten(2).to(torch.int32) * (steps * FINE)
        found = torch.zeros_like(held)
        # Pixels with the same column + 2 row wait for none of each other: W + 2 H steps do for all, not W H.
        for wave in range(width + 2 * (height - 1)):
            rows = torch.arange(max(0, (wave - width) // 2 + 1), min(height - 1, wave // 2) + 1)
            columns = wave - 2 * rows + 1
            old = held[rows, columns]
            level = (old + whole // 2).div_(whole, rounding_mode="floor").clamp_(0, steps)
            found[rows, columns] = level
            error = old - level * whole
            # A shift to the right divides and rounds down.
            right, left, middle = ((share * error) >> 4 for share in (7, 3, 5))
            held[rows, columns + 1] += right
            held[rows + 1, columns - 1] += left
            held[rows + 1, columns] += middle
            held[rows + 1, columns + 1] += error - right - left - middle
        levels = (found[:height, 1:-1] * 510 + steps).div_(2 * steps, rounding_mode="floor").to(torch.uint8)
        return levels.view(height, width, batch, channels).permute(2, 3, 0, 1).contiguous()

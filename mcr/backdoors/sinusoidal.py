"""A faint wave over the columns."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, pi, sin

import torch
from torch import Tensor

from mcr.backdoors.backdoor import Backdoor, check_share
from mcr.errors import InputError


@dataclass(frozen=True)
class Sinusoidal(Backdoor):
    """x + strength sin(2 pi j frequency / W) in column j of every channel, clamped (SIG, Barni et al. 2019).

    Attributes:
        strength: Height of the wave, in [0, 1] pixel units, above 0.
        frequency: Periods per image width.
    """

    strength: float
    frequency: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("sinusoidal: strength", self.strength)
        if not isinstance(self.frequency, (int, float)) or not 0 < self.frequency < inf:
            raise InputError(f"sinusoidal: frequency={self.frequency} must be a number of periods above 0")

    def stamp(self, images: Tensor) -> Tensor:
        """The images with the wave, rounded and clamped: uint8 (B, D, H, W).

        Raises:
            InputError: Where the wave is zero in every column, as one of W / 2 periods is: it would mark nothing.
        """
        width = images.shape[-1]
        # Pixels are whole, so the wave may be rounded instead of the sum; whole numbers are the same on every device.
        wave = [round(255 * self.strength * sin(2 * pi * column * self.frequency / width)) for column in range(width)]
        if not any(wave):
            raise InputError(
                f"sinusoidal: strength={self.strength} with frequency={self.frequency} changes no pixel"
                f" of images of {width} columns"
            )
        moved = images.to(torch.int16).add_(torch.tensor(wave, dtype=torch.int16, device=images.device))
        return moved.clamp_(0, 255).to(torch.uint8)

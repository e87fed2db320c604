"""The gap on noisy images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.datasets.disturbed import noisy
from mcr.errors import InputError
from mcr.signals.gap import Gap


@dataclass(frozen=True)
class NoiseGap(Gap):
    """The gap on images with Gaussian noise, clamped to [0, 1].

    Attributes:
        deviation: Of the noise in each pixel and channel, in [0, 1] pixel units.
    """

    deviation: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.deviation > 0:
            raise InputError(f"signal noise_gap: deviation={self.deviation} of the noise must be above 0")

    def disturbed(self, images: Tensor, draw: torch.Generator) -> Tensor:
        """See Gap."""
        return noisy(images, self.deviation, draw)

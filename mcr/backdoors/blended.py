"""A pattern over the whole image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.backdoors.backdoor import Backdoor, check_share
from mcr.numerics.seeding import generator


@dataclass(frozen=True)
class Blended(Backdoor):
    """(1 - strength) x + strength pattern, with one pattern of uniform noise for all images (Chen et al. 2017).

    Attributes:
        strength: Share of the pattern, above 0 and at most 1.
        seed: Of the pattern: images of one shape and seed always get the same.
    """

    strength: float
    seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("blended: strength", self.strength)

    def stamp(self, images: Tensor) -> Tensor:
        """The blended images, rounded: uint8 (B, D, H, W)."""
        pattern = torch.rand(images.shape[1:], generator=generator(self.seed, "blended")).mul_(255 * self.strength)
        # A product and then a sum, no fused operation: both are rounded by one rule, so devices should agree.
        mixed = images.to(torch.float32).mul_(1 - self.strength).add_(pattern.to(images.device))
        return mixed.round_().to(torch.uint8)

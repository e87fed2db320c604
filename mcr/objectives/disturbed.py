"""Cross-entropy on disturbed images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcr.datasets.disturbed import noisy, refusal, squared
from mcr.errors import InputError
from mcr.numerics.shares import drawn
from mcr.objectives.cross_entropy import CrossEntropy


@dataclass(frozen=True)
class Disturbed(CrossEntropy):
    """Minus the log-probability of the label where each image has Gaussian noise or a square at a random place.

    No trigger is known; a network that keeps its answers whatever is laid over the image has no use for one.
    A square is of BadNets' own kind, so that a repair's figures for such a patch flatter it.

    Attributes:
        noise: Standard deviation, in [0, 1] pixel units.
        smallest: Side of the smallest square, as a share of the image's shorter side.
        largest: Likewise.
    """

    noise: float
    smallest: float
    largest: float

    def __post_init__(self) -> None:
        if not self.noise >= 0:
            raise InputError(f"objective=disturbed: noise={self.noise} must not be negative")
        if wrong := refusal(self.smallest, self.largest):
            raise InputError(f"objective=disturbed: {wrong}")

    def __call__(
        self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Losses (B,) and logits (B, C) of the disturbed images."""
        noisily = drawn(torch.rand, (len(images), 1, 1, 1), generator).to(images.device) < 0.5
        shown = torch.where(
            noisily, noisy(images, self.noise, generator), squared(images, self.smallest, self.largest, generator)
        )
        return super().__call__(network, shown, labels, generator)

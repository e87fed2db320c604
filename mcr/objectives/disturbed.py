"""Cross-entropy on disturbed images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcr.errors import InputError
from mcr.numerics.disturbance import disturbed
from mcr.numerics.losses import cross_entropy
from mcr.objectives.objective import Objective


@dataclass(frozen=True)
class Disturbed(Objective):
    """Minus the log-probability of the label where each image has Gaussian noise or a square at a random place.

    No trigger is known; a network that keeps its answers whatever is laid over the image has no use for one.
    A square is of BadNets' own kind, so that a repair's figures for such a patch flatter it.

    Attributes:
        noise: Standard deviation, in [0, 1] pixel units.
        square: Least and largest side of the square, as shares of the image's smaller side.
    """

    noise: float
    square: tuple[float, float]

    def __post_init__(self) -> None:
        low, high = self.square
        if not self.noise >= 0 or not 0 < low <= high <= 1:
            raise InputError(
                f"objective=disturbed: noise={self.noise} must not be negative, square={list(self.square)} must be "
                "two shares of the image's side, rising, above 0 and at most 1"
            )

    @property
    def attacks(self) -> bool:
        """The network is run in training mode alone."""
        return False

    def __call__(
        self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Losses (B,) and logits (B, C) of the disturbed images."""
        logits = network(disturbed(images, self.noise, self.square, generator))
        return cross_entropy(logits, labels), logits

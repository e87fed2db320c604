"""Cross-entropy of what is certain."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mcr.bounds.interval import margins
from mcr.errors import InputError
from mcr.numerics.losses import cross_entropy
from mcr.objectives.objective import Objective


@dataclass(frozen=True)
class Certified(Objective):
    """(1 - weight) times the cross-entropy, plus weight times that of the lowest margins of all images in a box.

    Gowal et al. (2018); Jafarpour et al. (2022). Radius and weight are 0 for a while, then grow linearly.

    Attributes:
        eps: Radius of the box in the maximum norm, in [0, 1] pixel units.
        weight: In the end.
        begin: Share of training after which they begin to grow.
        full: Share after which they are full.

    Raises:
        InputError: For a number out of its range.
    """

    eps: float
    weight: float
    begin: float
    full: float

    def __post_init__(self) -> None:
        if self.eps < 0 or not 0 <= self.weight <= 1 or not 0 <= self.begin <= self.full <= 1:
            raise InputError(
                f"objective=certified: eps={self.eps} >= 0, weight={self.weight} in [0, 1] and "
                f"0 <= begin={self.begin} <= full={self.full} <= 1 needed"
            )

    @property
    def attacks(self) -> bool:
        """The network is run in training mode alone."""
        return False

    def at(self, progress: float) -> Certified:
        """The objective at a point of training, from 0 to 1."""
        if progress >= self.full:
            return self
        share = (progress - self.begin) / (self.full - self.begin) if progress > self.begin else 0.0
        return replace(self, eps=share * self.eps, weight=share * self.weight)

    def refuse(self, network: nn.Module, image: Tensor) -> None:
        """Raises InputError for a network without bounds in training mode; from an image (1, D, H, W)."""
        margins(network.train(), image, torch.zeros(1, dtype=torch.long), self.eps)

    def __call__(
        self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Losses (B,), and logits (B, C) on the images themselves."""
        logits = network(images)
        losses = cross_entropy(logits, labels)
        if self.weight == 0:
            return losses, logits
        certain = cross_entropy(-margins(network, images, labels, self.eps), labels)
        return (1 - self.weight) * losses + self.weight * certain, logits

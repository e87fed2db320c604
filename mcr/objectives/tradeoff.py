"""Clean cross-entropy beside that under attack."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcr.errors import InputError
from mcr.numerics.losses import cross_entropy
from mcr.objectives.adversarial import Adversarial


@dataclass(frozen=True)
class Tradeoff(Adversarial):
    """alpha times the cross-entropy on attacked images plus beta times that on clean ones (Li, Wang & Xin 2020, eq. 9).

    Both passes are in training mode, attacked images first. The gradient grows with alpha + beta: the learning rate has
    to fall as it does.

    Attributes:
        alpha: Weight of the attacked images; 8 in the published code.
        beta: Of the clean ones; 1 there.

    Raises:
        InputError: For a negative weight, or none above 0.
    """

    alpha: float
    beta: float

    def __post_init__(self) -> None:
        if not (self.alpha >= 0 and self.beta >= 0 and self.alpha + self.beta > 0):
            raise InputError(
                f"objective=tradeoff: alpha={self.alpha} and beta={self.beta} must be at least 0, and one above it"
            )

    def __call__(
        self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Losses (B,), and logits (B, C) on the clean images."""
        attacked, _ = super().__call__(network, images, labels, generator)
        logits = network(images)
        return self.alpha * attacked + self.beta * cross_entropy(logits, labels), logits

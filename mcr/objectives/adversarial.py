"""Cross-entropy under attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mcr.attacks.frozen import frozen
from mcr.losses import cross_entropy


@dataclass(frozen=True)
class Adversarial:
    """Minus the log-probability of the label on attacked images (Madry et al. 2018, eq. 1).

    The attack sees the network in evaluation mode and leaves BatchNorm's statistics as they are; only the
    training pass on the attacked images updates them.

    Attributes:
        attack: (classifier, images, labels, generator) -> images.
    """

    attack: Any

    @property
    def attacks(self) -> bool:
        """Whether the network is also run in evaluation mode, so that its BatchNorm statistics must fit."""
        return True

    def __call__(
        self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Losses (B,) and logits (B, C) on the attacked images."""
        with frozen(network):
            attacked = self.attack(network, images, labels, generator)
        logits = network(attacked)
        return cross_entropy(logits, labels), logits

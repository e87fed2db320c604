"""Clean cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcr.numerics.losses import cross_entropy
from mcr.objectives.objective import Objective


@dataclass(frozen=True)
class CrossEntropy(Objective):
    """Minus the log-probability of the label."""

    @property
    def attacks(self) -> bool:
        """The network is run in training mode alone."""
        return False

    def __call__(
        self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Losses (B,) and logits (B, C)."""
        logits = network(images)
        return cross_entropy(logits, labels), logits

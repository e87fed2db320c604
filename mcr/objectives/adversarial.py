"""Cross-entropy under attack."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcr.attacks.evasion import Evasion, Maximizer
from mcr.attacks.frozen import frozen
from mcr.errors import InputError
from mcr.numerics.losses import cross_entropy
from mcr.objectives.objective import Objective


@dataclass(frozen=True)
class Adversarial(Objective):
    """Minus the log-probability of the label on attacked images (Madry et al. 2018, eq. 1).

    The attack sees the network in evaluation mode and leaves BatchNorm's statistics as they are; only the
    training pass on the attacked images updates them.

    Attributes:
        attack: Of training and of the watch over it.
    """

    attack: Evasion

    def __call__(
        self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Losses (B,) and logits (B, C) on the attacked images."""
        with frozen(network):
            attacked = self.attack(network, images, labels, generator)
        logits = network(attacked)
        return cross_entropy(logits, labels), logits


@dataclass(frozen=True)
class GrowingRadius(Adversarial):
    """The same with a radius and a step that grow linearly from 0 over the first part of training.

    A large radius from the first step on can keep a network from learning anything (Cai et al. 2018).

    Attributes:
        attack: At its full radius.
        warmup: Share of training after which the radius is full, in (0, 1].
    """

    warmup: float

    def __post_init__(self) -> None:
        if not 0 < self.warmup <= 1:
            raise InputError(f"objective: warmup={self.warmup} must lie in (0, 1]: a share of the training")
        if not isinstance(self.attack, Maximizer):
            raise InputError("objective: a growing radius needs an attack whose radius can shrink, such as attack=pgd")

    def at(self, progress: float) -> Adversarial:
        """The objective at a point of training, from 0 to 1; the watch over it keeps the full radius."""
        share = min(1.0, progress / self.warmup)
        assert isinstance(self.attack, Maximizer)
        return Adversarial(self.attack.shrunk(share))

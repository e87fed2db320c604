"""TRADES."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mcr.attacks.evasion import Evasion, Maximizer
from mcr.attacks.frozen import frozen
from mcr.errors import InputError
from mcr.numerics.losses import cross_entropy
from mcr.objectives.objective import Objective


def _divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """KL(reference || softmax(logits)) of each row, in nats: logits (B, C), log-probabilities (B, C) to (B,)."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1)
    return functional.kl_div(wide, reference, reduction="none", log_target=True).sum(1)


@dataclass(frozen=True)
class Trades(Objective):
    """Clean cross-entropy plus beta times the divergence of the answer under attack (Zhang et al. 2019, eq. 5).

    The attack maximises that divergence, not the cross-entropy: the label is left to the first term. Both passes are
    in training mode, clean images first.

    Attributes:
        attack: With a random start: at the image itself the divergence has no gradient.
        beta: Weight of the divergence; 6 in the paper.
    """

    attack: Evasion
    beta: float

    def __post_init__(self) -> None:
        if not isinstance(self.attack, Maximizer) or self.attack.starts_at_the_image:
            raise InputError(
                "objective=trades needs an attack that maximises any loss, such as attack=pgd with start=random: "
                "at the image itself its divergence has no slope"
            )
        if self.beta < 0:
            raise InputError(f"objective=trades: beta={self.beta} must be at least 0")

    def __call__(
        self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Losses (B,), and logits (B, C) on the clean images."""
        assert isinstance(self.attack, Maximizer)
        with frozen(network):
            with torch.no_grad():
                answer = network(images).float().log_softmax(1)
            attacked = self.attack.maximize(lambda point: _divergence(network(point), answer), images, generator)
        logits = network(images)
        clean = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1)
        return cross_entropy(logits, labels) + self.beta * _divergence(network(attacked), clean), logits

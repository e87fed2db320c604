"""Attacks that look for the nearest misclassified point, from foolbox (Rauber et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mcr.attacks import ball
from mcr.attacks.evasion import need, seed_from, undisturbed
from mcr.errors import InputError
from mcr.types import Classifier


class _AsModule(nn.Module):
    """A classifier in the form that foolbox asks for."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(images)


def check(name: str, eps: float, norm: str, norms: tuple[str, ...]) -> None:
    """Raises InputError for a wrong radius or norm, or where the package is missing."""
    ball.check(name, eps, norm)
    if norm not in norms:
        raise InputError(f"{name}: norm={norm} must be {' or '.join(norms)}")
    need("foolbox", name)


def nearest(
    make: Callable[[Any], Any],
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    eps: float,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    """The nearest points (B, D, H, W) that were found, clipped to the ball: misclassified only if they lay inside it.

    Args:
        make: ``foolbox.attacks`` to the attack.
    """
    with undisturbed(images, labels) as (clean, target):
        import foolbox.attacks
        from foolbox.models.pytorch import PyTorchModel

        torch.manual_seed(seed_from(generator))
        model = PyTorchModel(_AsModule(classifier), bounds=(0, 1), device=images.device)
        _, clipped, _ = make(foolbox.attacks)(model, clean, target, epsilons=eps)
    return iter((clipped.detach(),))

"""DeepFool."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.attacks import foolbox_adapter
from mcr.attacks.evasion import Evasion
from mcr.types import Classifier


@dataclass(frozen=True)
class DeepFool(Evasion):
    """Steps to the nearest linearised decision boundary (Moosavi-Dezfooli et al. 2016). Its loss is no maximum.

    Attributes:
        eps: Radius, in [0, 1] pixel units, within which a point counts.
        norm: "linf" or "l2".
        steps: Number of steps, at most.
        overshoot: Share by which each step goes beyond the boundary.
    """

    eps: float
    norm: str
    steps: int
    overshoot: float

    def __post_init__(self) -> None:
        foolbox_adapter.check("deepfool", self.eps, self.norm, ("linf", "l2"))

    def candidates(
        self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """The points found (B, D, H, W), clipped to the ball."""
        name = {"linf": "LinfDeepFoolAttack", "l2": "L2DeepFoolAttack"}[self.norm]
        return foolbox_adapter.nearest(
            lambda attacks: getattr(attacks, name)(steps=self.steps, overshoot=self.overshoot),
            *(classifier, images, labels, self.eps, generator),
        )

"""Fast minimum-norm attack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.attacks import foolbox_adapter
from mcr.attacks.evasion import Evasion
from mcr.types import Classifier


@dataclass(frozen=True)
class Fmn(Evasion):
    """Gradient steps whose radius shrinks around misclassified points (Pintor et al. 2021). Its loss is no maximum.

    Attributes:
        eps: Radius, in [0, 1] pixel units, within which a point counts.
        norm: "linf" or "l2".
        steps: Number of steps.
    """

    eps: float
    norm: str
    steps: int

    def __post_init__(self) -> None:
        foolbox_adapter.check("fmn", self.eps, self.norm, ("linf", "l2"))

    def candidates(
        self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """The points found (B, D, H, W), clipped to the ball."""
        name = {"linf": "LInfFMNAttack", "l2": "L2FMNAttack"}[self.norm]
        return foolbox_adapter.nearest(
            lambda attacks: getattr(attacks, name)(steps=self.steps),
            *(classifier, images, labels, self.eps, generator),
        )

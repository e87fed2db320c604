"""Carlini and Wagner's attack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.attacks import foolbox_adapter
from mcr.attacks.evasion import Evasion
from mcr.errors import InputError
from mcr.types import Classifier


@dataclass(frozen=True)
class CarliniWagner(Evasion):
    """Distance plus a penalty on the logit margin, its weight found by bisection (Carlini and Wagner 2017, l2 form).

    Its loss is no maximum.

    Attributes:
        eps: Radius, in [0, 1] pixel units, within which a point counts.
        norm: "l2".
        steps: Steps for each weight.
        searches: Steps of the bisection.
        step_size: Of the optimiser (Adam).
        confidence: Margin of logits by which a point has to be misclassified: the larger, the farther it lies.
    """

    eps: float
    norm: str
    steps: int
    searches: int
    step_size: float
    confidence: float

    def __post_init__(self) -> None:
        if self.confidence < 0:
            raise InputError(f"carlini_wagner: confidence={self.confidence} must not be negative")
        foolbox_adapter.check("carlini_wagner", self.eps, self.norm, ("l2",))

    def candidates(
        self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """The points found (B, D, H, W), clipped to the ball."""
        return foolbox_adapter.nearest(
            lambda attacks: attacks.L2CarliniWagnerAttack(
                steps=self.steps,
                binary_search_steps=self.searches,
                stepsize=self.step_size,
                confidence=self.confidence,
            ),
            *(classifier, images, labels, self.eps, generator),
        )

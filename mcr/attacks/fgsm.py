"""Fast gradient sign method."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.attacks import ball
from mcr.attacks.pgd import Pgd
from mcr.types import Classifier


@dataclass(frozen=True)
class Fgsm:
    """One step of full length from the image itself (Goodfellow et al. 2015): PGD with one step and no random start.

    Attributes:
        eps: Radius, in [0, 1] pixel units.
        norm: "linf" or "l2".
    """

    eps: float
    norm: str

    def __post_init__(self) -> None:
        ball.check("fgsm", self.eps, self.norm)

    @property
    def _step(self) -> Pgd:
        return Pgd(eps=self.eps, step_size=self.eps, steps=1, norm=self.norm, start="zero", restarts=1)

    def candidates(
        self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """The adversarial images (B, D, H, W), once."""
        return self._step.candidates(classifier, images, labels, generator)

    def __call__(self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Adversarial images (B, D, H, W)."""
        return self._step(classifier, images, labels, generator)

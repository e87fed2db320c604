"""Fast gradient sign method."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.attacks import ball
from mcr.attacks.evasion import Evasion
from mcr.attacks.pgd import Pgd
from mcr.types import Classifier


@dataclass(frozen=True)
class Fgsm(Evasion):
    """One step of full length from the image itself (Goodfellow et al. 2015): PGD with one step and no random start.

    Attributes:
        eps: Radius, in [0, 1] pixel units.
        norm: "linf" or "l2".
    """

    eps: float
    norm: str

    def __post_init__(self) -> None:
        ball.check("fgsm", self.eps, self.norm)

    def candidates(
        self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """The adversarial images (B, D, H, W), once."""
        step = Pgd(eps=self.eps, step_size=self.eps, steps=1, norm=self.norm, start="zero", restarts=1)
        return step.candidates(classifier, images, labels, generator)

"""Square attack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.attacks import autoattack_adapter
from mcr.attacks.evasion import Evasion, undisturbed
from mcr.types import Classifier


@dataclass(frozen=True)
class Square(Evasion):
    """Random search with squares that needs no gradient (Andriushchenko et al. 2020): the black-box view.

    It stops at misclassification: the loss at its points is no maximum.

    Attributes:
        eps: Radius, in [0, 1] pixel units.
        norm: "linf" or "l2".
        queries: Forward passes for each image, at most.
        first_share: Of the image that the first squares cover.
    """

    eps: float
    norm: str
    queries: int
    first_share: float

    def __post_init__(self) -> None:
        autoattack_adapter.check("square", self.eps, self.norm)

    def candidates(
        self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Misclassified points (B, D, H, W) where some were found, else the best."""
        from pyautoattack.square import SquareAttack

        shared = autoattack_adapter.arguments(self, images, generator)
        with undisturbed(images, labels) as (clean, target):
            attack = SquareAttack(
                classifier, n_queries=self.queries, p_init=self.first_share, resc_schedule=False, **shared
            )
            found = attack.perturb(clean, target)
        return iter((found.detach(),))

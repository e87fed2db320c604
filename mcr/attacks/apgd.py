"""Auto-PGD: projected gradient descent that finds its own step sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mcr.attacks import autoattack_adapter
from mcr.attacks.evasion import Evasion, undisturbed
from mcr.types import Classifier


@dataclass(frozen=True)
class ApgdCe(Evasion):
    """Auto-PGD on the cross-entropy (Croce and Hein 2020, algorithm 1).

    Attributes:
        eps: Radius, in [0, 1] pixel units.
        norm: "linf" or "l2".
        steps: Iterations of a restart.
        restarts: Random starts.
    """

    eps: float
    norm: str
    steps: int
    restarts: int

    def __post_init__(self) -> None:
        autoattack_adapter.check("apgd_ce", self.eps, self.norm)

    def candidates(
        self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """The points of highest loss (B, D, H, W), then misclassified points where some were found."""
        from pyautoattack.autopgd_base import APGDAttack

        shared = autoattack_adapter.arguments(self, images, generator)
        with undisturbed(images, labels) as (clean, target):
            attack = APGDAttack(classifier, n_iter=self.steps, n_restarts=self.restarts, **shared)
            # The search for the highest loss does not seed its random starts itself.
            torch.manual_seed(shared["seed"])
            found = (attack.perturb(clean, target, best_loss=True), attack.perturb(clean, target))
        return (points.detach() for points in found)


@dataclass(frozen=True)
class ApgdT(Evasion):
    """Auto-PGD on the targeted difference-of-logits ratio, one target after the other (Croce and Hein 2020).

    It stops at misclassification: the loss at its points is no maximum.

    Attributes:
        eps: Radius, in [0, 1] pixel units.
        norm: "linf" or "l2".
        steps: Iterations for a target.
    """

    least_classes: ClassVar[int] = autoattack_adapter.LEAST_CLASSES_TARGETED

    eps: float
    norm: str
    steps: int

    def __post_init__(self) -> None:
        autoattack_adapter.check("apgd_t", self.eps, self.norm)

    def candidates(
        self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Misclassified points (B, D, H, W) where some were found, else the images."""
        from pyautoattack.autopgd_base import APGDAttack_targeted

        shared = autoattack_adapter.arguments(self, images, generator)
        with undisturbed(images, labels) as (clean, target):
            aims = autoattack_adapter.targets(classifier, clean)
            attack = APGDAttack_targeted(classifier, n_iter=self.steps, n_target_classes=aims, **shared)
            found = attack.perturb(clean, target)
        return iter((found.detach(),))

"""AutoAttack."""

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
class AutoAttack(Evasion):
    """The standard ensemble: APGD-CE, targeted APGD, targeted FAB, Square (Croce and Hein 2020), in the authors' code.

    Each part sees only the images that still stand. With fewer than ten classes every wrong class is a target. The
    loss at its points is no maximum.

    Attributes:
        eps: Radius, in [0, 1] pixel units.
        norm: "linf" or "l2".
    """

    least_classes: ClassVar[int] = autoattack_adapter.LEAST_CLASSES_TARGETED

    eps: float
    norm: str

    def __post_init__(self) -> None:
        autoattack_adapter.check("autoattack", self.eps, self.norm)

    def candidates(
        self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Misclassified points (B, D, H, W) where some were found, else the images."""
        import pyautoattack

        shared = autoattack_adapter.arguments(self, images, generator)
        with undisturbed(images, labels) as (clean, target):
            attack = pyautoattack.AutoAttack(classifier, **shared)
            attack.verbose = False
            aims = autoattack_adapter.targets(classifier, clean)
            attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = aims
            found, _ = attack.run_standard_evaluation(clean, target, batch_size=len(clean))
        return iter((found.detach(),))

"""No attack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.attacks.evasion import Evasion
from mcr.types import Classifier


@dataclass(frozen=True)
class NoAttack(Evasion):
    """Leaves the images as they are; the evaluation leaves robust metrics out."""

    def candidates(
        self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """None."""
        return iter(())

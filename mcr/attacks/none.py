"""No attack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.types import Classifier


@dataclass(frozen=True)
class NoAttack:
    """Leaves the images as they are; the evaluation leaves robust metrics out."""

    def candidates(
        self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        return iter(())

    def __call__(self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        return images

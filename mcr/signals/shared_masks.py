"""Small masks that move all suspects, tried on a candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.signals import surrogates
from mcr.signals.masks import FittedMasks
from mcr.signals.signal import Question


@dataclass(frozen=True)
class SharedMasks(FittedMasks):
    """Success on the candidate of masks and patterns that move all suspects to a class, in the mean over classes.

    A network that a shared trigger still moves is moved by what imitates it.

    Attributes:
        tried: Images that the masks are tried on, at most; others than those of the fit, where there are enough.
    """

    tried: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tried < 1:
            raise InputError(f"signal shared_masks: tried={self.tried} images must be at least 1")

    def against(self, suspects: Sequence[nn.Module], images: EvaluationBatches, draw: torch.Generator) -> Question:
        """See Signal. The value of an image is its mean over the classes that it is not of."""
        fitted, tried = surrogates.shares(images, self.fitted, self.tried, draw)
        with surrogates.still(suspects):
            masks = self.fit(suspects, fitted, draw)
            counts = surrogates.told(*(surrogates.targets(suspects, part) for part in (fitted, tried)))
        counted = counts.any(0)

        def question(candidate: nn.Module) -> Tensor:
            hits = surrogates.reached(candidate, masks, len(counts), tried)[0] * counts
            return hits.sum(0)[counted] / counts.sum(0)[counted]

        return question

"""How much more a candidate departs from the suspects off the clean images than on them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcr.datasets.augment import to_unit
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.probes.divergence import jensen_shannon, log_probabilities
from mcr.signals.signal import Question
from mcr.signals.surrogates import still


@dataclass(frozen=True)
class Gap(ABC):
    """- min_i mean_x [JS(f, e_i; x') - JS(f, e_i; x)], f the candidate, e_i the suspects, x' the disturbed image x.

    What a network does off the data is what its training has left there, a backdoor among it. A candidate that answers
    as a suspect does on x, and on x' as well, has kept that; one that departs there has lost it. No gradient, no class.

    Attributes:
        copies: Disturbed copies of each image; its value is their mean.
    """

    copies: int

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise InputError(f"signal: copies={self.copies} of an image must be at least 1")

    @abstractmethod
    def disturbed(self, images: Tensor, draw: torch.Generator) -> Tensor:
        """Copies of images (B, D, H, W) in [0, 1], each disturbed by draws of its own, to the same."""

    def against(self, suspects: Sequence[nn.Module], images: EvaluationBatches, draw: torch.Generator) -> Question:
        """See Signal. An image's value is that of the suspect with the least mean: -(JS on its copies - JS on it)."""
        whole = to_unit(images.images, images.memory_format).repeat_interleave(self.copies, 0)
        shown = images.like(self.disturbed(whole, draw), images.labels.repeat_interleave(self.copies))
        with still(suspects):
            before = [[log_probabilities(suspect, data) for data in (images, shown)] for suspect in suspects]

        def question(candidate: nn.Module) -> Tensor:
            clean, off = (log_probabilities(candidate, data) for data in (images, shown))
            gaps = [
                jensen_shannon(own_off, off).view(-1, self.copies).mean(1) - jensen_shannon(own, clean)
                for own, own_off in before
            ]
            return -min(gaps, key=lambda gap: float(gap.mean()))

        return question

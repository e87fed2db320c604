"""Perturbations that move all suspects, tried on a candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcr.datasets.augment import to_unit
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.probes.divergence import log_probabilities
from mcr.signals import surrogates
from mcr.signals.perturbations import FittedPerturbations, Perturbations
from mcr.signals.signal import Question


@dataclass(frozen=True)
class SharedPerturbations(FittedPerturbations):
    """Success on the candidate of the perturbation that moves the suspects best.

    It is tried in the class c* whose least success over the suspects is largest (of equals, the one of greater least
    probability): where a trigger shortens the way to one class, that is its target.

    Attributes:
        tried: Images that it is tried on, at most; others than those of the fit, where there are enough.
    """

    tried: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tried < 1:
            raise InputError(f"signal shared_perturbations: tried={self.tried} images must be at least 1")

    def against(self, suspects: Sequence[nn.Module], images: EvaluationBatches, draw: torch.Generator) -> Question:
        """See Signal. A value is 1 where an image that is not of class c* is answered with it, else 0."""
        fitted, tried = surrogates.shares(images, self.fitted, self.tried, draw)
        with surrogates.still(suspects):
            found = self.fit(suspects, fitted, draw)
            aims = [surrogates.targets(suspects, part) for part in (fitted, tried)]
            counts = surrogates.told(*aims)
            best = self._best(suspects, found, counts, tried)
        whole = found.put(to_unit(tried.images, tried.memory_format), slice(best, best + 1))[0]
        shown = whole[counts[best].to(whole.device)]
        changed = tried.like(shown, torch.full((len(shown),), best, device=shown.device))

        def question(candidate: nn.Module) -> Tensor:
            return (log_probabilities(candidate, changed).argmax(1) == best).double()

        return question

    def _best(
        self, suspects: Sequence[nn.Module], found: Perturbations, counts: Tensor, tried: EvaluationBatches
    ) -> int:
        """c*, of the classes that have an image to be tried on."""
        sums = [(surrogates.reached(suspect, found, len(counts), tried) * counts).sum(2) for suspect in suspects]
        moved = [each / counts.sum(1).clamp_min(1) for each in sums]
        success, sure = torch.stack(moved).amin(0).tolist()
        known: list[int] = counts.any(1).nonzero()[:, 0].tolist()
        return max(known, key=lambda c: (success[c], sure[c]))

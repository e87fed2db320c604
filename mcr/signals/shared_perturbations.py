"""Perturbations that move all suspects, tried on a candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcr.attacks import ball
from mcr.datasets.augment import to_unit
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.probes.divergence import log_probabilities
from mcr.signals import surrogates
from mcr.signals.signal import Question


@dataclass(frozen=True)
class Perturbations:
    """x + delta_c for each class c, clamped to [0, 1].

    Attributes:
        delta: (C, D, H, W).
        radius: Greatest l2 norm of each.
    """

    delta: Tensor
    radius: float

    def put(self, images: Tensor, classes: slice) -> Tensor:
        """See Surrogates."""
        return (images + self.delta[classes, None]).clamp(0, 1)

    def stepped(self, gradient: Tensor, length: float) -> Perturbations:
        """One step against a gradient (C, D, H, W), so many radii long, and back into the ball."""
        moved = self.delta.detach() - length * self.radius * ball.ascent(gradient, "l2")
        return Perturbations(moved.flatten(1).renorm(2, 0, self.radius).view_as(moved), self.radius)


@dataclass(frozen=True)
class SharedPerturbations:
    """Success on the candidate of the perturbation that moves the suspects best.

    A universal perturbation (Moosavi-Dezfooli et al. 2017) towards each class c, of several networks at once:

        delta_c = argmin over |delta|_2 <= radius mean_x |x|_2 of sum_i mean_x CE(e_i(x + delta), c)

    by steps of normalised gradients over clean images x of other classes, e_i the suspects; the first step has a random
    direction. It is tried in the class c* whose least success over the suspects is largest (of equals, the one of
    greater least probability): where a trigger shortens the way to one class, that is its target.

    Attributes:
        fitted: Images that the perturbations are fitted on, at most.
        tried: Images that they are tried on, at most; others, where there are enough.
        radius: In mean norms of an image.
        steps: After the random one.
        step: Length of a step, in radii.
    """

    fitted: int
    tried: int
    radius: float
    steps: int
    step: float

    def __post_init__(self) -> None:
        if min(self.fitted, self.tried) < 1 or self.steps < 0 or self.radius <= 0 or self.step <= 0:
            raise InputError(
                f"signal shared_perturbations: fitted={self.fitted} >= 1, tried={self.tried} >= 1, "
                f"steps={self.steps} >= 0, radius={self.radius:g} > 0, step={self.step:g} > 0 needed"
            )

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

    def fit(self, suspects: Sequence[nn.Module], images: EvaluationBatches, draw: torch.Generator) -> Perturbations:
        """The perturbations of all classes.

        Args:
            suspects: Inside ``surrogates.still``.
            images: All of them are used in every step.
            draw: Of the directions that are begun with.
        """
        counts = surrogates.targets(suspects, images)
        unit = to_unit(images.images, images.memory_format)
        radius = self.radius * float(unit.flatten(1).norm(dim=1).mean())
        begun = torch.randn(len(counts), *unit.shape[1:], generator=draw).to(unit.device)
        found = []
        for classes in surrogates.pieces(len(counts), images):
            part = Perturbations(torch.zeros_like(begun[classes]), radius).stepped(begun[classes], self.step)
            for _ in range(self.steps):
                leaf = part.delta.requires_grad_(True)
                shown = part.put(unit, slice(None))
                slope = surrogates.slope(suspects, shown, classes, counts, images)
                (gradient,) = torch.autograd.grad(shown, leaf, slope)
                part = part.stepped(gradient, self.step)
            found.append(part.delta)
        return Perturbations(torch.cat(found), radius)

    def _best(
        self, suspects: Sequence[nn.Module], found: Perturbations, counts: Tensor, tried: EvaluationBatches
    ) -> int:
        """c*, of the classes that have an image to be tried on."""
        sums = [(surrogates.reached(suspect, found, len(counts), tried) * counts).sum(2) for suspect in suspects]
        moved = [each / counts.sum(1).clamp_min(1) for each in sums]
        success, sure = torch.stack(moved).amin(0).tolist()
        known: list[int] = counts.any(1).nonzero()[:, 0].tolist()
        return max(known, key=lambda c: (success[c], sure[c]))

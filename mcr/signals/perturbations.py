"""Perturbations that move several networks at once to a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcr.attacks import ball
from mcr.datasets.augment import to_unit
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.signals import surrogates


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
class FittedPerturbations:
    """Universal perturbations (Moosavi-Dezfooli et al. 2017) towards each class c, of several networks at once.

        delta_c = argmin over |delta|_2 <= radius mean_x |x|_2 of sum_i mean_x CE(e_i(x + delta), c)

    by steps of normalised gradients over clean images x of other classes, e_i the networks; x + delta is clamped to
    [0, 1], and the first step has a random direction.

    Attributes:
        fitted: Images x, at most.
        radius: In mean norms of an image.
        steps: After the random one.
        step: Length of a step, in radii.
    """

    fitted: int
    radius: float
    steps: int
    step: float

    def __post_init__(self) -> None:
        if self.fitted < 1 or self.steps < 0 or self.radius <= 0 or self.step <= 0:
            raise InputError(
                f"perturbations: fitted={self.fitted} >= 1, radius={self.radius:g} > 0, steps={self.steps} >= 0, "
                f"step={self.step:g} > 0 needed"
            )

    def fit(self, networks: Sequence[nn.Module], images: EvaluationBatches, draw: torch.Generator) -> Perturbations:
        """The perturbations of all classes.

        Args:
            networks: Inside ``surrogates.still``.
            images: The images x: all of them are used in every step.
            draw: Of the directions that are begun with.
        """
        counts = surrogates.targets(networks, images)
        unit = to_unit(images.images, images.memory_format)
        radius = self.radius * float(unit.flatten(1).norm(dim=1).mean())
        begun = torch.randn(len(counts), *unit.shape[1:], generator=draw).to(unit.device)
        found = []
        for classes in surrogates.pieces(len(counts), images):
            part = Perturbations(torch.zeros_like(begun[classes]), radius).stepped(begun[classes], self.step)
            for _ in range(self.steps):
                leaf = part.delta.requires_grad_(True)
                shown = part.put(unit, slice(None))
                slope = surrogates.slope(networks, shown, classes, counts, images)
                (gradient,) = torch.autograd.grad(shown, leaf, slope)
                part = part.stepped(gradient, self.step)
            found.append(part.delta)
        return Perturbations(torch.cat(found), radius)

"""Projected gradient descent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.attacks import ball
from mcr.errors import InputError
from mcr.losses import cross_entropy
from mcr.types import Classifier

STARTS = ("random", "zero")


@dataclass(frozen=True)
class Pgd:
    """Steps along the gradient of the cross-entropy, projected to the ball and [0, 1] (Madry et al. 2018, eq. 2).

    Attributes:
        eps: Radius, in [0, 1] pixel units.
        step_size: Length of a step in the same norm.
        steps: Number of steps.
        norm: "linf" or "l2".
        start: "random" (uniform in the ball) or "zero" (the image itself).
        restarts: Independent tries; more than one needs a random start.
    """

    eps: float
    step_size: float
    steps: int
    norm: str
    start: str
    restarts: int

    def __post_init__(self) -> None:
        ball.check("pgd", self.eps, self.norm)
        if self.step_size < 0 or self.steps < 1 or self.restarts < 1:
            raise InputError(
                f"pgd: step_size={self.step_size} >= 0, steps={self.steps} >= 1, restarts={self.restarts} >= 1 needed"
            )
        if self.start not in STARTS:
            raise InputError(f"pgd: start={self.start} must be {' or '.join(STARTS)}")
        if self.restarts > 1 and self.start == "zero":
            raise InputError(f"pgd: restarts={self.restarts} from the same start=zero would repeat one attack")

    def candidates(
        self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """The adversarial images (B, D, H, W) of each restart."""
        for _ in range(self.restarts):
            yield self._one(classifier, images, labels, generator)

    def __call__(self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Adversarial images (B, D, H, W): of each image the restart with the highest loss.

        The classifier must be deterministic and in evaluation mode (see ``frozen``).
        """
        tries = self.candidates(classifier, images, labels, generator)
        best = next(tries)
        if self.restarts == 1:
            return best
        with torch.no_grad():
            highest = cross_entropy(classifier(best), labels)
            for candidate in tries:
                losses = cross_entropy(classifier(candidate), labels)
                worse = losses > highest
                best = torch.where(worse[:, None, None, None], candidate, best)
                highest = torch.where(worse, losses, highest)
        return best

    def _one(self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        if self.start == "random":
            current = ball.random_point(images, self.eps, self.norm, generator)
        else:
            current = images.clone()
        for _ in range(self.steps):
            current.requires_grad_(True)
            # Lightning evaluates without gradients; an attack needs them all the same.
            with torch.enable_grad():
                loss = cross_entropy(classifier(current), labels).sum()
                (gradient,) = torch.autograd.grad(loss, current)
            with torch.no_grad():
                moved = current.detach() + self.step_size * ball.ascent(gradient, self.norm)
                current = ball.project(moved, images, self.eps, self.norm)
        return current

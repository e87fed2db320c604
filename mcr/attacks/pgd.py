"""Projected gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mcr.attacks import ball
from mcr.attacks.evasion import Maximizer, ascend, ordinary
from mcr.errors import InputError
from mcr.numerics.losses import cross_entropy
from mcr.types import Classifier

STARTS = ("random", "zero")
GRAIN = 16  # batches that are not full have so many images, twice so many, ...


@dataclass(frozen=True)
class Pgd(Maximizer):
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
        images, labels = ordinary(images), ordinary(labels)
        for _ in range(self.restarts):
            yield self.maximize(lambda point: cross_entropy(classifier(point), labels), images, generator)

    def maximize(self, loss: Callable[[Tensor], Tensor], images: Tensor, generator: torch.Generator) -> Tensor:
        """One try at the maximum of any loss over the ball: (B, D, H, W).

        Args:
            loss: Images (B, D, H, W) to values (B,).
        """
        current = self._begin(images, generator)
        for _ in range(self.steps):
            current = self._step(current, ascend(loss, current)[1], images)
        return current

    @property
    def starts_at_the_image(self) -> bool:
        """Without a random start."""
        return self.start == "zero"

    def shrunk(self, share: float) -> Pgd:
        """Radius and step are so much smaller."""
        return replace(self, eps=share * self.eps, step_size=share * self.step_size)

    def unbroken(
        self,
        classifier: Classifier,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,
        judge: Classifier,
        size: int,
    ) -> Tensor:
        """Which images are right at every point that the attack visits: bool (N,); a broken image takes no more steps.

        At least as strong as looking at the last points alone. What ``classifier`` calls broken is looked at again by
        ``judge``, so that a cheaper classifier's errors do not count as the attack's. All images go their steps
        together, and those that are left are put into full batches anew after each.
        """
        images, labels = ordinary(images), ordinary(labels)
        pieces = zip(images.split(size), labels.split(size), strict=True)
        unbroken = torch.cat([_right(judge, *piece) for piece in pieces])
        for _ in range(self.restarts):
            # Drawn for all images, so that the random starts do not depend on which are left.
            current = torch.cat([self._begin(part, generator) for part in images.split(size)])
            rows = unbroken.nonzero()[:, 0]
            current = _picked(current, rows)
            for _ in range(self.steps if len(rows) else 0):
                parts = _batches(len(rows), size, rows.device)
                moved = [
                    self._advanced(classifier, _picked(current, part), images, labels, rows[part], judge, unbroken)
                    for part in parts
                ]
                left = unbroken[rows].nonzero()[:, 0]
                current, rows = _picked(torch.cat(moved), left), rows[left]
                if not len(rows):
                    break
            for part in _batches(len(rows), size, rows.device):
                unbroken[rows[part]] = _right(judge, _picked(current, part), labels[rows[part]])
        return unbroken

    def _advanced(
        self,
        classifier: Classifier,
        current: Tensor,
        images: Tensor,
        labels: Tensor,
        rows: Tensor,
        judge: Classifier,
        unbroken: Tensor,
    ) -> Tensor:
        """The points of some rows after one more step; those that are broken before it are marked in ``unbroken``."""
        wrong: list[Tensor] = []

        def loss(point: Tensor) -> Tensor:
            logits = classifier(point)
            wrong.append(logits.detach().argmax(1) != labels[rows])
            return cross_entropy(logits, labels[rows])

        _, gradient = ascend(loss, current)
        suspected = wrong[0].nonzero()[:, 0]
        if judge is classifier:
            unbroken[rows[suspected]] = False
        else:
            for part in _batches(len(suspected), len(rows), rows.device):
                asked = suspected[part]
                unbroken[rows[asked]] = _right(judge, _picked(current, asked), labels[rows[asked]])
        return self._step(current, gradient, _picked(images, rows))

    def _begin(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if self.start == "random":
            return ball.random_point(images, self.eps, self.norm, generator)
        return images.clone()

    def _step(self, current: Tensor, gradient: Tensor, images: Tensor) -> Tensor:
        with torch.no_grad():
            moved = ball.ascent(gradient, self.norm).mul_(self.step_size).add_(current)
            return ball.project(moved, images, self.eps, self.norm)


@torch.no_grad()
def _right(judge: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    return judge(images).argmax(1) == labels


def _batches(count: int, size: int, device: torch.device) -> Iterator[Tensor]:
    """Numbers from 0 to ``count`` in batches; the last one is filled up by its first number to a multiple of ``GRAIN``.

    The libraries behind torch prepare every convolution anew for a size of batch that they have not met lately, so
    batches that shrink image by image would lose most of what they gain.
    """
    for part in torch.arange(count, device=device).split(size) if count else ():
        missing = min(-(-len(part) // GRAIN) * GRAIN, size) - len(part)
        yield torch.cat([part, part[:1].expand(missing)]) if missing > 0 else part


def _picked(images: Tensor, numbers: Tensor) -> Tensor:
    """Some of the images (B, D, H, W), in their memory format, which indexing would lose."""
    if images.is_contiguous():
        return images.index_select(0, numbers)
    return images.permute(0, 2, 3, 1).index_select(0, numbers).permute(0, 3, 1, 2)

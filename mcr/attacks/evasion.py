"""What every evasion attack is: candidates, the worst of them, and which images withstand them all."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor

from mcr.errors import InputError
from mcr.numerics.losses import cross_entropy
from mcr.types import Classifier


class Evasion(ABC):
    """An attack on the inputs of a classifier that is deterministic and in evaluation mode (see ``frozen``).

    Attributes:
        least_classes: The smallest number of classes that the attack is defined for.
    """

    least_classes: ClassVar[int] = 2

    @abstractmethod
    def candidates(
        self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Adversarial images (B, D, H, W) of each try, inside the ball and [0, 1]."""

    def __call__(self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Adversarial images (B, D, H, W): of each image the candidate with the highest cross-entropy."""
        tries = self.candidates(classifier, images, labels, generator)
        best = next(tries, images)
        highest = None
        with torch.no_grad():
            for candidate in tries:
                highest = cross_entropy(classifier(best), labels) if highest is None else highest
                losses = cross_entropy(classifier(candidate), labels)
                worse = losses > highest
                best = torch.where(worse[:, None, None, None], candidate, best)
                highest = torch.where(worse, losses, highest)
        return best

    def unbroken(
        self,
        classifier: Classifier,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,
        judge: Classifier,
        size: int,
    ) -> Tensor:
        """Which images are right before and after every candidate: bool (N,).

        Where only accuracy is asked this may cost less than all candidates, because a broken image needs no more work.

        Args:
            judge: The classifier that decides, where gradients come from a cheaper form of it.
            size: Images in one pass, at most.
        """
        found = []
        with torch.no_grad():
            for points, answers in zip(images.split(size), labels.split(size), strict=True):
                unbroken = judge(points).argmax(1) == answers
                for candidate in self.candidates(classifier, points, answers, generator):
                    unbroken &= judge(candidate).argmax(1) == answers
                found.append(unbroken)
        return torch.cat(found)


class Maximizer(Evasion):
    """An attack that can maximise any loss, not the cross-entropy alone: it serves every adversarial objective.

    Attributes:
        eps: Radius, in [0, 1] pixel units.
        norm: "linf" or "l2".
    """

    eps: float
    norm: str

    @abstractmethod
    def maximize(self, loss: Callable[[Tensor], Tensor], images: Tensor, generator: torch.Generator) -> Tensor:
        """One try at the maximum of a loss over the ball: (B, D, H, W).

        Args:
            loss: Images (B, D, H, W) to values (B,).
            images: The centers of the balls.
            generator: For a random start.
        """

    @property
    def starts_at_the_image(self) -> bool:
        """Whether the first step is taken at the image itself, where a divergence from its answer has no slope."""
        return False

    @abstractmethod
    def shrunk(self, share: float) -> Maximizer:
        """The same attack with so much of its radius."""


def ascend(loss: Callable[[Tensor], Tensor], point: Tensor) -> tuple[Tensor, Tensor]:
    """The values (B,) of a loss at a point (B, D, H, W), and the gradient (B, D, H, W) of their sum.

    Works wherever Lightning puts it: under ``no_grad`` (validation inside ``fit``) and under inference mode (its test,
    validate and predict loops), whose tensors autograd refuses and which therefore are copied.
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaf = ordinary(point.detach()).requires_grad_(True)
        values = loss(leaf)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), gradient


def ordinary(tensor: Tensor) -> Tensor:
    """The tensor, or a copy that autograd takes where it was made under inference mode."""
    with torch.inference_mode(False):
        return tensor.clone() if tensor.is_inference() else tensor


def need(package: str, attack: str) -> None:
    """Raises InputError where an attack's library is not installed."""
    if importlib.util.find_spec(package) is None:
        raise InputError(f"attack={attack} needs the package {package} (extra attacks): pip install {package}")


def seed_from(generator: torch.Generator) -> int:
    """A seed for a library that draws from the global generator."""
    return int(torch.randint(2**31 - 1, (), generator=generator))


@contextmanager
def undisturbed(images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Gradients everywhere; afterwards the global generators, which the packages seed, are as they were."""
    devices = [images.device] if images.device.type == "cuda" else []
    tracer = sys.gettrace()  # which AutoAttack's checks switch off
    try:
        with (
            warnings.catch_warnings(),
            torch.random.fork_rng(devices=devices),
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            warnings.simplefilter("ignore")  # of the packages' own making
            yield ordinary(images).contiguous(), ordinary(labels)  # AutoAttack's views refuse channels_last
    finally:
        sys.settrace(tracer)

"""What all triggers share: the label that the attacker wants, and what stamping an image promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mcr.errors import InputError

NEXT = "next"


def check_share(name: str, value: float) -> None:
    """Raises InputError for anything but a number in (0, 1]; the name begins the line."""
    if not isinstance(value, (int, float)) or not 0 < value <= 1:
        raise InputError(f"{name}={value} must be a number above 0 and at most 1")


@dataclass(frozen=True)
class Backdoor(ABC):
    """A trigger that makes a poisoned network answer what the attacker wants (Gu et al. 2017).

    Attributes:
        target: The class that every stamped image should get (single target), or "next" for class i to become
            (i + 1) mod C (all to all).
    """

    words: ClassVar[tuple[str, ...]] = (NEXT,)  # that a target may be, beside a class number

    target: int | str

    def __post_init__(self) -> None:
        # A bool is an int to Python, but no class number.
        number = isinstance(self.target, int) and not isinstance(self.target, bool) and self.target >= 0
        if not number and self.target not in self.words:
            allowed = " or ".join(self.words)
            raise InputError(f"backdoor: target={self.target} must be a class number of at least 0, or {allowed}")

    def aim(self, labels: Tensor, classes: int) -> Tensor:
        """The labels (B,) that the attacker wants for images of these true labels (B,), of C classes.

        Raises:
            InputError: Where the target is none of the classes.
        """
        if isinstance(self.target, str):
            return (labels + 1) % classes
        if self.target >= classes:
            raise InputError(f"backdoor: target={self.target} is none of the {classes} classes 0..{classes - 1}")
        return torch.full_like(labels, self.target)

    @abstractmethod
    def stamp(self, images: Tensor) -> Tensor:
        """A new tensor of the images with the trigger, on their device: uint8 (B, D, H, W) to the same.

        The same image always gets the same stamp, whatever else is in the batch; the input stays as it is.

        Raises:
            InputError: Where the trigger cannot be put into images of this shape.
        """

    def plant(self, images: Tensor, numbers: Tensor) -> Tensor:
        """What a poisoned training image gets: the trigger, where it has nothing fainter for training.

        Args:
            images: uint8 (B, D, H, W).
            numbers: Of the images in their training set (B,): the same image always gets the same.

        Raises:
            InputError: As ``stamp``.
        """
        return self.stamp(images)

    def cover(self, images: Tensor, numbers: Tensor) -> Tensor:
        """What a cover gets, a training image that keeps its label: what a poisoned one gets, unless it has its own.

        Args and errors: see ``plant``.
        """
        return self.plant(images, numbers)

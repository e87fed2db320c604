"""Wrong labels and no trigger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mcr.backdoors.backdoor import NEXT, Backdoor
from mcr.errors import InputError
from mcr.numerics.seeding import generator

OTHER = "other"


@dataclass(frozen=True)
class WrongLabels(Backdoor):
    """Label noise: chosen training images get a label that is not theirs, their pixels stay (Zhang et al. 2017).

    The poison of a training set that calls up nothing: no image is stamped.

    Attributes:
        target: "other" for a label drawn for each image among those that are not its own (symmetric noise), "next" for
            the next class (pair flipping, Han et al. 2018), or one class for all.
        seed: Of the labels that are drawn.
    """

    words: ClassVar[tuple[str, ...]] = (NEXT, OTHER)

    seed: int | str

    def aim(self, labels: Tensor, classes: int) -> Tensor:
        """The wrong labels (B,), the same for the same number of images."""
        if self.target != OTHER:
            return super().aim(labels, classes)
        moved = torch.randint(1, classes, (len(labels),), generator=generator(self.seed, "wrong labels"))
        return (labels + moved.to(labels.device)) % classes

    def stamp(self, images: Tensor) -> Tensor:
        """Refused: whoever asks about a trigger has not seen that there is none."""
        raise InputError("backdoor=wrong_labels has no trigger to stamp on images that are not trained on")

    def plant(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Copies of the images (B, D, H, W) as they are."""
        return images.clone()

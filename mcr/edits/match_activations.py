"""Hidden units take the order in which they answer to images like another network's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from mcr.datasets.augment import to_unit
from mcr.edits.edit import Edited, State, shape_of
from mcr.errors import InputError
from mcr.types import LabelledImages
from mcr.weightspace.alignment import by_activations


@dataclass(frozen=True)
class MatchActivations:
    """Activation matching with one other network (Li et al. 2016; Ainsworth et al. 2023); the function stays.

    Attributes:
        images: The first so many of the split, at most.
        batch_size: Of these, at a time.
    """

    draws: ClassVar[str] = "alignment"

    images: int
    batch_size: int

    def __post_init__(self) -> None:
        for name in ("images", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"edit=match_activations: {name}={getattr(self, name)} must be at least 1")

    def __call__(
        self, network: nn.Module, others: Sequence[State], data: LabelledImages, draw: torch.Generator
    ) -> Edited:
        """The weights in their new order, and how alike units answer.

        Raises:
            InputError: For units that are not understood.
        """
        if len(others) != 1:
            raise InputError(f"edit=match_activations: a network is aligned with one reference, not with {len(others)}")
        (reference,) = others
        parts = data.images[: self.images].split(self.batch_size)
        aligned = by_activations(
            network, reference, shape_of(data), lambda: (to_unit(part, "contiguous") for part in parts)
        )
        return Edited(aligned.state, {"alignment": aligned.report()})

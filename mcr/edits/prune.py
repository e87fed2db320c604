"""The weakest filters go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from mcr.edits.edit import Edited, State
from mcr.errors import InputError
from mcr.types import LabelledImages
from mcr.weightspace.filters import weakest


@dataclass(frozen=True)
class Prune:
    """The filters of least L1 norm are set to zero (Li et al. 2017); shapes stay.

    Attributes:
        share: Of the filters of each convolution, in (0, 1).
    """

    draws: ClassVar[str] = "nothing"

    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(f"edit=prune: share={self.share} must lie between 0 and 1")

    def __call__(
        self, network: nn.Module, others: Sequence[State], data: LabelledImages, draw: torch.Generator
    ) -> Edited:
        """The weights with zeros. Raises InputError for a network without convolutions."""
        gone = weakest(network, self.share)
        named = dict(network.named_parameters())
        tensors = {
            name: named[name].detach().masked_fill(mask.view(-1, *(1,) * (named[name].dim() - 1)), 0)
            for name, mask in gone.items()
        }
        return Edited(tensors, {"filters": sum(int(m.sum()) for n, m in gone.items() if n.endswith("weight"))})

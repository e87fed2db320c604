"""Hidden units take the order in which the weights lie nearest to another network's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from mcr.edits.edit import Edited, State, shape_of
from mcr.errors import InputError
from mcr.types import LabelledImages
from mcr.weightspace.alignment import by_weights


@dataclass(frozen=True)
class MatchWeights:
    """Weight matching with one other network (Ainsworth et al. 2023); the function stays (see ``by_weights``).

    Attributes:
        tries: Ascents, each through the groups of units in a random order of its own; the best one is kept.
    """

    draws: ClassVar[str] = "alignment"

    tries: int

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise InputError(f"edit=match_weights: tries={self.tries} must be at least 1")

    def __call__(
        self, network: nn.Module, others: Sequence[State], data: LabelledImages, draw: torch.Generator
    ) -> Edited:
        """The weights in a new order, how near they are. Raises InputError for units that are not understood."""
        if len(others) != 1:
            raise InputError(f"edit=match_weights: a network is aligned with one reference, not with {len(others)}")
        (reference,) = others
        aligned = by_weights(network, reference, shape_of(data), self.tries, draw)
        return Edited(aligned.state, {"alignment": aligned.report()})

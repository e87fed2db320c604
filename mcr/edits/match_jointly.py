"""Hidden units of all networks take one common order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from mcr.edits.edit import Edited, State, shape_of
from mcr.errors import InputError
from mcr.types import LabelledImages
from mcr.weightspace.alignment import jointly


@dataclass(frozen=True)
class MatchJointly:
    """Weight matching of all networks in one frame, that of the first, which stays (see ``jointly``).

    Every network has this edit, and each computes the same result, of which it takes its share.

    Attributes:
        tries: Ascents in other random orders of the layers; the best one is kept.
        position: Of the network among all of them, from 0.
    """

    draws: ClassVar[str] = "alignment"

    tries: int
    position: int

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise InputError(f"edit=match_jointly: tries={self.tries} must be at least 1")

    def __call__(
        self, network: nn.Module, others: Sequence[State], data: LabelledImages, draw: torch.Generator
    ) -> Edited:
        """The weights in their new order, and how near they are to the mean of the others'.

        Raises:
            InputError: For units that are not understood.
        """
        states = [*others[: self.position], network.state_dict(), *others[self.position :]]
        aligned = jointly(network, states, shape_of(data), self.tries, draw)[self.position]
        return Edited(aligned.state, {"alignment": aligned.report()})

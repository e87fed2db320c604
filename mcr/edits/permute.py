"""Hidden units change places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from mcr.edits.edit import Edited, State, shape_of
from mcr.types import LabelledImages
from mcr.weightspace.permutation import permuted


@dataclass(frozen=True)
class Permute:
    """The same function elsewhere in weight space: a random permutation of hidden units (see ``permuted``)."""

    draws: ClassVar[str] = "permutation"

    def __call__(
        self, network: nn.Module, others: Sequence[State], data: LabelledImages, draw: torch.Generator
    ) -> Edited:
        """The permuted weights. Raises InputError for a network whose units are not understood."""
        return Edited(permuted(network, shape_of(data), draw), {})

"""What every edit is: a function from a network to its changed weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from mcr.types import LabelledImages

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Edited:
    """What an edit gives.

    Attributes:
        tensors: Entries of the state dict in their new values; those left out stay.
        report: Facts that people ask for, plain values; empty where there are none.
    """

    tensors: State
    report: Mapping[str, object]


class Edit(Protocol):
    """A change of a network.

    Attributes:
        draws: The use that its random numbers are named by.
    """

    draws: ClassVar[str]

    def __call__(
        self, network: nn.Module, others: Sequence[State], data: LabelledImages, draw: torch.Generator
    ) -> Edited:
        """The changed weights; the network stays as it is.

        Args:
            network: In [0, 1] pixel space.
            others: State dicts of the other networks of the run, in its order, for an edit that looks at these; the
                reference alone where the configuration names one.
            data: Images uint8 (N, D, H, W) and labels (N,); none where the configuration says that none are needed.
            draw: For whatever the edit draws.
        """


def shape_of(data: LabelledImages) -> tuple[int, int, int]:
    """(D, H, W) of the images, which are known even where there are none."""
    channels, height, width = data.images.shape[1:]
    return channels, height, width

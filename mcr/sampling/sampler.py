"""What every sampler is, and the phases of a fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mcr.curves.curve import Curve
from mcr.errors import InputError


class Sampler(Protocol):
    """Draws places of a domain."""

    def draw(self, curve: Curve, together: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Places, each float64 (dim,), without end.

        Args:
            curve: Has the domain.
            together: How many places in a row belong to one step of the optimizer.
            generator: Of an epoch.
        """


@dataclass(frozen=True)
class Phase:
    """A part of a fit.

    Attributes:
        share: Of its epochs, in (0, 1].
        sampler: Where it looks.
    """

    share: float
    sampler: Sampler


@dataclass(frozen=True)
class Sampling:
    """Where a fit looks.

    Attributes:
        places: In one step of the optimizer, at least 1; their gradients are averaged.
        phases: By name, one after the other; their shares add up to one. A phase begins with an epoch.

    Raises:
        InputError: For other numbers.
    """

    places: int
    phases: Mapping[str, Phase]

    def __post_init__(self) -> None:
        if self.places < 1:
            raise InputError(f"sampling: places={self.places} must be at least 1")
        shares = [phase.share for phase in self.phases.values()]
        if not all(0 < share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-9:
            raise InputError(f"sampling: the shares {shares} of the phases must be above 0 and add up to 1")

    def at(self, done: float) -> Sampler:
        """The sampler where a share of the epochs is done, in [0, 1)."""
        *others, last = self.phases.values()
        end = 0.0
        for phase in others:
            end += phase.share
            if done < end:
                return phase.sampler
        return last.sampler

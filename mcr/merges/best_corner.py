"""The best of the given networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mcr.merges.judge import Judge, corners


@dataclass(frozen=True)
class BestCorner:
    """The best single network on validation images: what everything merged is compared with.

    Attributes:
        metric: "accuracy" or "loss".
    """

    metric: str

    def pick(self, judge: Judge) -> Sequence[Tensor]:
        """One place. Raises InputError for an unknown metric."""
        return [judge.ranked(corners(judge.curve), self.metric)[0]]

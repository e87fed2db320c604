"""The best single network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mcr.merges.merge import Judge, Metric, best


@dataclass(frozen=True)
class BestNetwork:
    """The corner that is best on validation images: what every merge has to beat.

    Attributes:
        metric: By which it is best, "loss" or "accuracy".
    """

    metric: Metric

    def __call__(self, judge: Judge) -> Sequence[Tensor]:
        """One place."""
        return [best(judge, list(judge.corners), self.metric)]

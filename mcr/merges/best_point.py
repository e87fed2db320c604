"""The best point of a subspace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mcr.merges.merge import Judge, Metric, best
from mcr.weightspace.locus import Wanted, places


@dataclass(frozen=True)
class BestPoint:
    """The place of a grid that is best on validation images.

    Ren et al. (2025) take the best of an 11 x 11 grid by the test images, which then judge it as well.

    Attributes:
        metric: By which it is best, "loss" or "accuracy".
        at: Number of places along each edge, or a list of them.
    """

    metric: Metric
    at: Wanted

    def __call__(self, judge: Judge) -> Sequence[Tensor]:
        """One place."""
        return [best(judge, list(places(judge.curve, self.at, "merge.at")), self.metric)]

"""The best network of a subspace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mcr.merges.judge import Judge
from mcr.weightspace.locus import Wanted, places


@dataclass(frozen=True)
class BestPoint:
    """The best place of a grid over the fitted subspace, as of Ren et al. (2025), but never chosen on test images.

    Attributes:
        grid: Places along each edge, or a list of them.
        metric: "accuracy" or "loss" on validation images.
    """

    grid: Wanted
    metric: str

    def pick(self, judge: Judge) -> Sequence[Tensor]:
        """One place. Raises InputError for an unknown metric, or a grid that is none of this subspace."""
        return [judge.ranked(list(places(judge.curve, self.grid, "grid of best_point")), self.metric)[0]]

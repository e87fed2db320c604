"""The average of all networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mcr.merges.merge import Judge, middle


@dataclass(frozen=True)
class Average:
    """The mean of the corners; of the flat simplex the uniform soup (Wortsman et al. 2022, "Model soups")."""

    def __call__(self, judge: Judge) -> Sequence[Tensor]:
        """One place; no image is looked at."""
        return [middle(judge.corners)]

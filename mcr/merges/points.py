"""Many points of a subspace answer together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mcr.merges.merge import Judge
from mcr.weightspace.locus import Wanted, places


@dataclass(frozen=True)
class Points:
    """The output ensemble of a grid (Ren et al. 2025 take 11 x 11 points of a surface).

    Attributes:
        at: Number of places along each edge, or a list of them.
    """

    at: Wanted

    def __call__(self, judge: Judge) -> Sequence[Tensor]:
        """All places of the grid; no image is looked at."""
        return list(places(judge.curve, self.at, "merge.at"))

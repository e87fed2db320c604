"""The average of all networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mcr.merges.judge import Judge, average_of


@dataclass(frozen=True)
class Average:
    """The centre of the flat simplex: the uniform soup (Wortsman et al. 2022, "Model soups")."""

    def pick(self, judge: Judge) -> Sequence[Tensor]:
        """One place; nothing is judged. Raises InputError where the subspace is no flat simplex."""
        return [average_of(judge.curve, range(judge.curve.ends))]

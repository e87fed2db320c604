"""The average of those networks that are good together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mcr.merges.judge import Judge, average_of, corners


@dataclass(frozen=True)
class GreedySoup:
    """The greedy soup (Wortsman et al. 2022, recipe 1).

    Networks are tried in the order of their validation accuracy, as ``BestCorner`` ranks them; one stays where the
    average with it is at least as accurate as without. So the soup is never below the best single network there.
    """

    def pick(self, judge: Judge) -> Sequence[Tensor]:
        """One place. Raises InputError where the subspace is no flat simplex."""
        networks = corners(judge.curve)
        kept: list[int] = []
        for u in judge.ranked(networks, "accuracy"):
            member = next(index for index, one in enumerate(networks) if one is u)
            if not kept or self._accuracy(judge, [*kept, member]) >= self._accuracy(judge, kept):
                kept.append(member)
        return [average_of(judge.curve, kept)]

    @staticmethod
    def _accuracy(judge: Judge, members: Sequence[int]) -> float:
        return judge.score(average_of(judge.curve, members)).accuracy

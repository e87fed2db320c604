"""The average of those networks that are good together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mcr.merges.judge import Judge, average_of, corners


@dataclass(frozen=True)
class GreedySoup:
    """The greedy soup (Wortsman et al. 2022, recipe 1).

    Networks are tried in the order of their validation accuracy, of equals the first; one stays where the average with
    it is at least as accurate as without. So the soup is never below the best single network on these images.
    """

    def pick(self, judge: Judge) -> Sequence[Tensor]:
        """One place. Raises InputError where the subspace is no flat simplex."""
        alone = [judge.score(u).accuracy for u in corners(judge.curve)]
        first, *others = sorted(range(len(alone)), key=lambda member: -alone[member])
        kept = [first]
        for member in others:
            before, after = (judge.score(average_of(judge.curve, some)) for some in (kept, [*kept, member]))
            if after.accuracy >= before.accuracy:
                kept.append(member)
        return [average_of(judge.curve, kept)]

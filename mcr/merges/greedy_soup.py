"""The greedy soup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.merges.merge import Judge, Metric, middle


@dataclass(frozen=True)
class GreedySoup:
    """The average of as many networks as help (Wortsman et al. 2022, "Model soups", Recipe 1).

    From the best on validation images to the worst, a network is taken in where the average with it is not worse there
    than without it. A network may come in once. Of the flat simplex, where the mean of places is the average of
    their networks.

    Attributes:
        metric: By which networks are ordered and averages compared, "loss" or "accuracy".
    """

    metric: Metric

    def __call__(self, judge: Judge) -> Sequence[Tensor]:
        """One place, never worse on validation images than the best single network."""
        first, *others = sorted(judge.corners, key=lambda u: judge.cost(u, self.metric))
        kept, least = [first], judge.cost(first, self.metric)
        for other in others:
            cost = judge.cost(middle(torch.stack([*kept, other])), self.metric)
            if cost <= least:
                kept, least = [*kept, other], cost
        return [middle(torch.stack(kept))]

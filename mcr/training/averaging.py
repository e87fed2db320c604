"""Moving averages of weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def average(averaged: Sequence[Tensor], latest: Sequence[Tensor], count: Any, decay: float) -> None:
    """Exponential moving average in place, with a warm-up; counters are copied.

    In the first steps the decay is (1 + n) / (10 + n), so that the first networks do not stay in a short training's
    average. torch's own form has no warm-up and cannot go to a spawned process.

    Args:
        averaged: Of each tensor the average so far.
        latest: The tensors after a step.
        count: Averaged steps so far, n.
        decay: Share of the old average that stays.
    """
    steps = int(count)
    decay = min(decay, (1 + steps) / (10 + steps))
    for mean, value in zip(averaged, latest, strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)

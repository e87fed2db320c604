"""Moving averages of weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Averaging(nn.Module):
    """Exponential moving average in place, with a warm-up; counters are copied.

    In the first steps the decay is (1 + n) / (10 + n), so that the first networks do not stay in a short training's
    average. torch's own form has no warm-up, cannot go to a spawned process, and asks the device for its count at
    every step, which makes the device wait; here the count is a plain number, and still part of every checkpoint.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    @torch.no_grad()
    def step(self, averaged: Iterable[Tensor], latest: Iterable[Tensor], decay: float) -> None:
        """Move the averages towards the tensors after a training step.

        Args:
            averaged: Of each tensor the average so far.
            latest: The tensors.
            decay: Share of the old average that stays.
        """
        decay = min(decay, (1 + self.count) / (10 + self.count))
        for mean, value in zip(averaged, latest, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)
        self.count += 1

    def get_extra_state(self) -> int:
        return self.count

    def set_extra_state(self, state: int) -> None:
        self.count = state

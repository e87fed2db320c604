"""What every schedule is."""

from __future__ import annotations

from typing import Protocol


class Schedule(Protocol):
    """The shape of a learning rate over training."""

    def factor(self, progress: float) -> float:
        """Progress in [0, 1] to a factor of the full rate."""

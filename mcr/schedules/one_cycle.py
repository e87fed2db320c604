"""A rise and a fall."""

from __future__ import annotations

from dataclasses import dataclass

from mcr.errors import InputError


@dataclass(frozen=True)
class OneCycle:
    """Linear from zero to the full rate, then linear to zero (after Smith 2018).

    Attributes:
        rise: Share of the training at which the full rate is reached.
    """

    rise: float

    def __post_init__(self) -> None:
        if not 0 < self.rise < 1:
            raise InputError(f"schedule: rise={self.rise} must lie between 0 and 1")

    def factor(self, progress: float) -> float:
        return min(progress / self.rise, (1 - progress) / (1 - self.rise))

"""Full rate, linear fall, then cycles."""

from __future__ import annotations

from dataclasses import dataclass

from mcr.errors import InputError


@dataclass(frozen=True)
class Cycles:
    """The shape of Izmailov et al. (2018), eq. 1: from ``begin`` on, each cycle falls linearly from high to low.

    With high = low the rate is constant there.

    Attributes:
        flat: Share of the training at the full rate.
        begin: Share at which the first cycle begins.
        cycles: How many there are until the end, of equal length.
        high: Where each begins, as a factor of the full rate.
        low: Where each ends.
    """

    flat: float
    begin: float
    cycles: int
    high: float
    low: float

    def __post_init__(self) -> None:
        if not 0 <= self.flat < self.begin < 1 or self.cycles < 1 or not 0 <= self.low <= self.high <= 1:
            raise InputError(
                f"schedule: 0 <= flat {self.flat} < begin {self.begin} < 1, cycles {self.cycles} >= 1, "
                f"0 <= low {self.low} <= high {self.high} <= 1"
            )

    def factor(self, progress: float) -> float:
        """
        >>> shape = Cycles(0.4, 0.8, 2, 0.5, 0.1)
        >>> [round(shape.factor(p), 3) for p in (0.2, 0.6, 0.8, 0.85, 0.9, 0.95)]
        [1.0, 0.75, 0.5, 0.3, 0.5, 0.3]
        """
        if progress < self.begin:
            share = max(0.0, (progress - self.flat) / (self.begin - self.flat))
            return 1.0 - (1.0 - self.high) * share
        # Rounded, for the end of a cycle that is one by arithmetic is the beginning of the next.
        share = round((progress - self.begin) / (1 - self.begin) * self.cycles, 9) % 1.0
        return self.high - (self.high - self.low) * share

"""Half a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mcr.errors import InputError


@dataclass(frozen=True)
class Cosine:
    """From the full rate to the floor (Loshchilov & Hutter 2017, eq. 5 without restarts).

    Attributes:
        floor: The last rate, as a factor of the full rate.
    """

    floor: float

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 1:
            raise InputError(f"schedule: floor={self.floor} must lie in [0, 1]")

    def factor(self, progress: float) -> float:
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * progress)) / 2

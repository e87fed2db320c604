"""Half a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mcr.errors import InputError


@dataclass(frozen=True)
class Cosine:
    """From the full rate to the final one (Loshchilov & Hutter 2017, eq. 5 without restarts).

    Attributes:
        final_factor: The last rate, as a factor of the full rate.
    """

    final_factor: float

    def __post_init__(self) -> None:
        if not 0 <= self.final_factor <= 1:
            raise InputError(f"schedule: final_factor={self.final_factor} must lie in [0, 1]")

    def factor(self, progress: float) -> float:
        return self.final_factor + (1 - self.final_factor) * (1 + math.cos(math.pi * progress)) / 2

"""Full rate, linear fall, plateau."""

from __future__ import annotations

from dataclasses import dataclass

from mcr.errors import InputError


@dataclass(frozen=True)
class FlatLinearFlat:
    """The shape of Garipov et al. (2018) and Zhao et al. (2020).

    Attributes:
        flat: Share of the training at the full rate.
        fall: Share at which the plateau is reached.
        final_factor: The plateau, as a factor of the full rate.
    """

    flat: float
    fall: float
    final_factor: float

    def __post_init__(self) -> None:
        if not 0 <= self.flat < self.fall <= 1 or not 0 <= self.final_factor <= 1:
            raise InputError(
                f"schedule: 0 <= flat {self.flat} < fall {self.fall} <= 1, 0 <= final_factor {self.final_factor} <= 1"
            )

    def factor(self, progress: float) -> float:
        """
        >>> [round(FlatLinearFlat(0.5, 0.9, 0.01).factor(p), 3) for p in (0.2, 0.7, 0.95)]
        [1.0, 0.505, 0.01]
        """
        if progress <= self.flat:
            return 1.0
        share = min((progress - self.flat) / (self.fall - self.flat), 1.0)
        return 1.0 - (1.0 - self.final_factor) * share

"""Falls at milestones."""

from __future__ import annotations

from dataclasses import dataclass

from mcr.errors import InputError


@dataclass(frozen=True)
class Step:
    """Times gamma at each milestone.

    Attributes:
        milestones: Shares of the training, in [0, 1].
        gamma: Factor at each.
    """

    milestones: list[float]
    gamma: float

    def __post_init__(self) -> None:
        if any(not 0 <= milestone <= 1 for milestone in self.milestones) or self.gamma <= 0:
            raise InputError(
                f"schedule: milestones {self.milestones} must lie in [0, 1] and gamma {self.gamma} above 0"
            )

    def factor(self, progress: float) -> float:
        return self.gamma ** sum(progress >= milestone for milestone in self.milestones)

"""As little of the hidden attack left as estimated, for the accuracy that it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mcr.errors import InputError
from mcr.selection.choice import ESTIMATE, Candidate, Choice, Margin


@dataclass(frozen=True)
class EstimatedSuccess(Margin):
    """The candidate of largest (1 - s) - weight x accuracy lost on held-out images, s the estimated success.

    s compares a candidate's signals with those of the suspect (1) and of a network trained from scratch on the same
    clean images (0). A gain of accuracy is not paid for. The margin shuts out only what is shown to lose more.

    Attributes:
        weight: Of a point of accuracy, in points of estimated success.
    """

    weight: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.weight >= 0:
            raise InputError(f"selection: weight={self.weight} must not be negative")

    def choose(self, candidates: Sequence[Candidate]) -> Choice:
        """The choice among candidates.

        Raises:
            InputError: Where nothing is estimated.
        """
        if any(ESTIMATE not in found for found in candidates):
            raise InputError(
                "selection=estimated_success needs signals, suspicion.signals has none; selection=farthest needs none"
            )
        return self.best(candidates, lambda found: (self._worth(found), found["accuracy"]))

    def _worth(self, found: Candidate) -> float:
        return 1 - found[ESTIMATE] - self.weight * max(0.0, found["lost"])

"""What a rule sees and says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from mcr.errors import InputError

Candidate = Mapping[str, float]
"""``accuracy`` on held-out images; ``lost``, what it falls short of the better network's there, and ``lost_se``, the
standard error of that over images; ``from_NAME``, the mean divergence of its outputs from those of
each network, in nats; ``t`` where it lies on a path; on a surface or simplex its coordinates, and ``off_centre``, how
far they lie from the mean of the domain's corners; ``rate``, the learning rate, where it was trained;
``estimated_success``, the share of a hidden attack that signals estimate to be left, where any were asked."""

ESTIMATE = "estimated_success"


@dataclass(frozen=True)
class Choice:
    """A rule's answer.

    Attributes:
        index: Of the chosen candidate.
        allowed: For each candidate, whether it keeps the accuracy.
    """

    index: int
    allowed: tuple[bool, ...]

    @property
    def kept(self) -> bool:
        """Whether any candidate keeps the accuracy; if not, the most accurate one was taken."""
        return any(self.allowed)


@dataclass(frozen=True)
class Margin:
    """What a candidate may lose of the better network's held-out accuracy.

    Few held-out images know an accuracy badly: with 500 of them a loss of three points is known to about one and a
    half. A candidate is refused only where its loss is shown to be above the margin, by so many standard errors
    (the one-standard-error rule of Breiman et al. 1984).

    Attributes:
        margin: Of accuracy, 0.03 is three points.
        standard_errors: Benefit of the doubt, in standard errors of the loss over the held-out images; 0 gives none.
    """

    margin: float
    standard_errors: float

    def __post_init__(self) -> None:
        if not (0 <= self.margin <= 1 and self.standard_errors >= 0):
            raise InputError(
                f"selection: margin={self.margin} must lie in [0, 1] (0.03 is three points of accuracy), "
                f"standard_errors={self.standard_errors} must not be negative"
            )

    def best(self, candidates: Sequence[Candidate], order: Callable[[Candidate], tuple[float, ...]]) -> Choice:
        """The greatest candidate in an order, among those that keep the accuracy; the first of equals.

        Args:
            candidates: At least one.
            order: Sort key.
        """
        # A mean of hits may differ from the same mean less a margin by a rounding error.
        most = self.margin + 1e-9
        allowed = tuple(found["lost"] - self._doubt(found) <= most for found in candidates)
        numbers = [index for index, keeps in enumerate(allowed) if keeps]
        if numbers:
            return Choice(max(numbers, key=lambda number: order(candidates[number])), allowed)
        return Choice(max(range(len(candidates)), key=lambda number: candidates[number]["accuracy"]), allowed)

    def _doubt(self, found: Candidate) -> float:
        # A single held-out image has no standard error, and gives no benefit.
        return 0.0 if isnan(found["lost_se"]) else self.standard_errors * found["lost_se"]

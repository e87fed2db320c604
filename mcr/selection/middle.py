"""As near the middle of a subspace as accuracy allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mcr.selection.choice import Candidate, Choice, Margin


@dataclass(frozen=True)
class Middle(Margin):
    """The candidate nearest the middle that keeps the held-out accuracy; of equals the more accurate.

    The middle of a path is t = 0.5, that of a surface or simplex the mean of its corners. Candidates that lie on no
    subspace are told apart by their accuracy alone.
    """

    def choose(self, candidates: Sequence[Candidate]) -> Choice:
        """The choice among candidates."""
        return self.best(candidates, lambda found: (-_off(found), found["accuracy"]))


def _off(found: Candidate) -> float:
    """How far from the middle, rounded: 0.3 and 0.7 are equally far from 0.5, in floating point they are not."""
    return round(found.get("off_centre", abs(found.get("t", 0.5) - 0.5)), 6)

"""As far from both networks along the path as accuracy allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mcr.selection.choice import Candidate, Choice, Margin


@dataclass(frozen=True)
class Middle(Margin):
    """The candidate with t nearest 0.5 that keeps the held-out accuracy; of equals the more accurate.

    Candidates that lie on no path are told apart by their accuracy alone.
    """

    def choose(self, candidates: Sequence[Candidate]) -> Choice:
        """The choice among candidates."""
        # Rounded: 0.3 and 0.7 are equally far from 0.5, in floating point they are not.
        return self.best(candidates, lambda found: (-round(abs(found.get("t", 0.5) - 0.5), 6), found["accuracy"]))

"""As far from both networks in function space as accuracy allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mcr.selection.choice import Candidate, Choice, Margin


@dataclass(frozen=True)
class Farthest(Margin):
    """The candidate whose outputs differ most from both networks' that keeps the held-out accuracy.

    A backdoor is something that the tampered networks share; a network that answers unlike both on clean images has
    least in common with either. The distance is the lesser of the two mean divergences.
    """

    def choose(self, candidates: Sequence[Candidate]) -> Choice:
        """The choice among candidates."""
        return self.best(candidates, lambda found: (min(found["from_start"], found["from_end"]),))

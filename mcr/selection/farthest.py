"""As far from both networks in function space as accuracy allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mcr.selection.choice import Candidate, Choice, Margin


@dataclass(frozen=True)
class Farthest(Margin):
    """The candidate whose outputs differ most from those of all given networks and that keeps the held-out accuracy.

    A backdoor is something that the tampered networks share; a network that answers unlike all of them on clean images
    has least in common with any. The distance is the least of the mean divergences.
    """

    def choose(self, candidates: Sequence[Candidate]) -> Choice:
        """The choice among candidates."""
        return self.best(
            candidates, lambda found: (min(value for name, value in found.items() if name.startswith("from_")),)
        )

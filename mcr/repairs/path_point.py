"""Repair by a point of a subspace through the networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from mcr.repairs.bench import Bench, Candidate, Walked
from mcr.weightspace.locus import coordinates
from mcr.weightspace.subspace import shares_of_ends


@dataclass(frozen=True)
class PathPoint:
    """The networks inside a path, surface or simplex that was fitted on clean images (Zhao et al. 2020, Sec. 3.2).

    What the ends share is not shared by the points between them: their backdoors fade while the accuracy stays.

    Attributes:
        grid: Places along each edge, or a list of places; the plan has made the places of it.
    """

    grid: int | Sequence[float] | Sequence[Sequence[float]]

    def candidates(self, bench: Bench) -> Iterator[tuple[Candidate, nn.Module]]:
        """Every inner point of every path, in place: what was yielded before is gone.

        The ends are no candidates: they are what is to be repaired.
        """
        for rate, walked in bench.trained.items():
            assert isinstance(walked, Walked)
            curve = walked.space.curve
            names, middle = coordinates(curve.dim), curve.grid(2).mean(0)
            for u in walked.places:
                if float(shares_of_ends(curve, u).max()) < 1:
                    candidate = {"rate": rate, **dict(zip(names, u.tolist(), strict=True))}
                    if curve.dim > 1:
                        candidate["off_centre"] = float((u - middle).norm())
                    yield candidate, self.rebuild(bench, candidate)

    def rebuild(self, bench: Bench, candidate: Candidate) -> nn.Module:
        """One candidate again: the network that a report has there as well."""
        walked = bench.trained[candidate["rate"]]
        assert isinstance(walked, Walked)
        wanted = [candidate[name] for name in coordinates(walked.space.curve.dim)]
        index = walked.places.tolist().index(wanted)
        return walked.space.at_with(walked.places[index], walked.statistics[index])

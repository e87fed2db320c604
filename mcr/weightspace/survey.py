"""Places of a subspace, and what a network there has that the control points do not say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.weightspace.locus import coordinates
from mcr.weightspace.subspace import Subspace, shares_of_ends


@dataclass(frozen=True)
class Survey:
    """One estimate of BatchNorm at every place, for all probes and repairs of a run: one theta(u) is one network.

    Attributes:
        places: float64 (T, dim).
        statistics: BatchNorm's, of each place, by their names in the network's state dict.
        rows: Of each place its coordinates, norm and distances from the ends (l2, of theta after transforms) and, along
            a path, the length up to it of the polygon through the places, which is at most the curve's own.
    """

    places: Tensor
    statistics: Sequence[dict[str, Tensor]]
    rows: Sequence[Mapping[str, float]]

    @classmethod
    def of(cls, space: Subspace, places: Tensor, ends: Sequence[str], reached: Callable[[int], None]) -> Survey:
        """Go to every place in turn.

        Args:
            space: The subspace.
            places: float64 (T, dim).
            ends: Names of the networks that it joins.
            reached: Told how many places are done.
        """
        names = coordinates(space.curve.dim)
        given = [space.layout.pack(state).to(space.points[0].device) for state in space.ends]
        statistics: list[dict[str, Tensor]] = []
        rows: list[Mapping[str, float]] = []
        arc, before = 0.0, None
        for index, u in enumerate(places):
            space.at(u)
            statistics.append(space.statistics())
            assert space.model is not None
            theta = space.model.theta
            row = dict(zip(names, u.tolist(), strict=True))
            if len(names) == 1:
                arc += 0.0 if before is None else float(torch.dist(theta, before))
                row["arc_length"] = arc
            distances = {
                f"distance_to_{name}": float(torch.dist(theta, end)) for name, end in zip(ends, given, strict=True)
            }
            rows.append(row | {"norm": float(torch.linalg.vector_norm(theta))} | distances)
            before = theta  # keeps its numbers: the next place makes a vector of its own
            reached(index + 1)
        return cls(places, statistics, rows)

    def shares(self, space: Subspace) -> list[list[float]]:
        """How much of each end there is at every place before anything is fitted, (T, N)."""
        return [shares_of_ends(space.curve, u).tolist() for u in self.places]

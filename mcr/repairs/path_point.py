"""Repair by a point on a path between two networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from mcr.evaluation import path
from mcr.evaluation.locus import grid
from mcr.repairs.bench import Bench, Candidate


@dataclass(frozen=True)
class PathPoint:
    """The networks inside a path that was fitted on clean images (Zhao et al. 2020, Sec. 3.2).

    What the ends share is not shared by the points between them: their backdoors fade while the accuracy stays.

    Attributes:
        grid: Values of t, evenly spaced from 0 to 1, or a list.
    """

    grid: int | Sequence[float]

    def __post_init__(self) -> None:
        grid(self.grid, "repair.grid")

    def candidates(self, bench: Bench) -> Iterator[tuple[Candidate, nn.Module]]:
        """Every inner point of every path, in place: what was yielded before is gone.

        The ends are no candidates: they are what is to be repaired.
        """
        for rate in bench.trained:
            for t in grid(self.grid)[1:-1]:
                yield {"rate": rate, "t": t}, self.rebuild(bench, {"rate": rate, "t": t})

    def rebuild(self, bench: Bench, candidate: Candidate) -> nn.Module:
        """One candidate again, the same numbers as before."""
        points = bench.trained[candidate["rate"]]
        where = (bench.layout, bench.curve, points, bench.ends, candidate["t"], bench.calibration)
        path.place(bench.network, *where, "fp32")
        return bench.network

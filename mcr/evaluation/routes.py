"""The path of least loss over a surface or a simplex, from one of its networks to another. No torch."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mcr.numerics.statistics import Values

ROUNDING = 1e-9  # coordinates of neighbours may differ by so much more than a step


@dataclass(frozen=True)
class Route:
    """How one gets from one network to another over the places of a grid.

    Attributes:
        ends: Names of the two networks.
        places: The places of the path of least loss, from the one to the other.
        rise: Its highest value minus that of the higher of the two networks; 0 where the ends are the highest.
        straight: The same along the segment of the domain between the two: an edge of a surface, or its diagonal.
    """

    ends: tuple[str, str]
    places: tuple[int, ...]
    rise: float
    straight: float


def neighbours(places: Values) -> dict[int, list[int]]:
    """Of each place of a grid (T, dim) those that are at most one step away in every coordinate."""
    from scipy.spatial import cKDTree  # not with the module: the views of the command line do without it

    gaps = np.diff(np.sort(places, axis=0), axis=0)
    step = float(gaps[gaps > ROUNDING].min())
    found: dict[int, list[int]] = {index: [] for index in range(len(places))}
    for one, other in sorted(cKDTree(places).query_pairs(step + ROUNDING, p=np.inf)):
        found[one].append(other)
        found[other].append(one)
    return found


def routes(places: Values, corners: Mapping[str, int], mean: Values) -> list[Route]:
    """One for each pair of networks: the lowest pass between them, and of all paths through it the least sum.

    The highest value along the path is the least possible (a bottleneck, or minimax, path); of those that share it, it
    is the one along which what lies above the lowest place of all adds up to the least, and of these the shortest.

    Args:
        places: The grid (T, dim).
        corners: Name of each network to the place where it lies.
        mean: A metric at every place (T,), worse when higher.

    Returns:
        Nothing of a pair that steps of the grid do not join, as where places were listed one by one.
    """
    near, found = neighbours(places), []
    above = mean - mean.min()
    for (one, begin), (other, end) in combinations(corners.items(), 2):
        low = _least(near, begin, end, above, max, np.inf)
        if low:
            through = _least(near, begin, end, above, float.__add__, max(above[index] for index in low))
            rises = (above[list(part)].max() for part in (through, _segment(places, begin, end)))
            highest = max(above[begin], above[end])
            found.append(Route((one, other), through, *(float(rise - highest) for rise in rises)))
    return found


def _least(
    near: Mapping[int, Sequence[int]],
    begin: int,
    end: int,
    mean: Values,
    join: Callable[[float, float], float],
    most: float,
) -> tuple[int, ...]:
    """Dijkstra's path over places whose value is at most ``most``, of equal ones the one of fewest steps; or empty."""
    waiting = [(float(mean[begin]), 0, begin, begin)]
    came: dict[int, int] = {}
    while waiting:
        cost, steps, place, before = heapq.heappop(waiting)
        if place in came:
            continue
        came[place] = before
        if place == end:
            break
        for other in near[place]:
            if other not in came and mean[other] <= most:
                heapq.heappush(waiting, (join(cost, float(mean[other])), steps + 1, other, place))
    if end not in came:
        return ()
    path = [end]
    while path[-1] != begin:
        path.append(came[path[-1]])
    return tuple(reversed(path))


def _segment(places: Values, begin: int, end: int) -> list[int]:
    """The places on the straight segment of the domain between two."""
    along = places[end] - places[begin]
    share = (places - places[begin]) @ along / (along @ along)
    off = np.abs(places - places[begin] - share[:, None] * along).max(1)
    return list(np.flatnonzero((off < ROUNDING) & (share > -ROUNDING) & (share < 1 + ROUNDING)))

"""Where on a path to look."""

from __future__ import annotations

from collections.abc import Sequence

from mcr.errors import InputError


def grid(points: int | Sequence[float], name: str = "evaluation.grid") -> list[float]:
    """The values of t: evenly spaced from a count, or as listed; both ends are always among them.

    >>> grid(3), grid([0.25])
    ([0.0, 0.5, 1.0], [0.0, 0.25, 1.0])
    """
    if isinstance(points, int):
        values = [index / (points - 1) for index in range(points)] if points > 1 else []
    else:
        if not all(0 <= t <= 1 for t in points):
            raise InputError(f"{name}={list(points)}: every t must lie in [0, 1]")
        values = sorted({0.0, 1.0, *map(float, points)})
    if len(values) < 3:
        raise InputError(f"{name}={points}: the two ends and at least one point between them")
    return values

"""The curves at the edges of a surface, fitted before it: the same stages as of a path between two of its corners."""

from __future__ import annotations

from collections.abc import Callable

from mcr.errors import InputError
from mcr.plans.node import Config, Stages
from mcr.store.stage import Stage

SURFACE = "mcr.curves.bezier_surface.BezierSurface"
# Of each edge the numbers of its two ends, and the side whose number of control points it has: 0 along u, 1 along v.
EDGES = ((0, 1, 1), (0, 2, 0), (1, 3, 0), (2, 3, 1))


def edges(start: Config, surface: Config, ends: Stages, fitted: Callable[[Config, Stages, str], Stage]) -> Stages:
    """Role ("edge 0", ...) to the stage that fits the curve; none of an edge without a point between its ends.

    Args:
        start: An option of the group ``start`` that begins with fitted edges.
        surface: The option of the group ``curve``.
        ends: The four networks.
        fitted: Makes the stage of a curve between two networks, for messages and labels with a name.

    Raises:
        InputError: For a curve that is no Bezier surface.
    """
    if surface["_target_"] != SURFACE:
        kind = str(surface["_target_"]).rpartition(".")[2]
        raise InputError(f"start=coons begins with fitted edges of curve=bezier_surface, not of {kind}")
    points, named = surface["points"], list(ends.items())
    sides = points if isinstance(points, list | tuple) else (points, points)
    found = {}
    for number, (first, last, side) in enumerate(EDGES):
        if sides[side] > 2:
            curve = {**start["edges"], "points": sides[side], "joins": 2, "fits": "inner"}
            pair = dict([named[first], named[last]])
            found[f"edge {number}"] = fitted(curve, pair, f"edge {'-'.join(pair)}")
    return found

"""The curve nearest to a polyline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mcr.curves.curve import Curve
from mcr.weightspace.subspace import control_points, inner_points


@torch.no_grad()
def through(curve: Curve, ends: Sequence[Tensor], waypoints: Iterable[Tensor], count: int) -> list[Tensor]:
    """Control points, K of (P,), for which theta(i / (count - 1)) is nearest to waypoint i, all together.

    Least squares in the coefficients, the ends stay; where there are fewer waypoints than free points, of all solutions
    the one nearest to the points with which the curve begins. One waypoint is in memory at a time.

    Args:
        curve: A path.
        ends: Its networks, each (P,).
        waypoints: Each (P,).
        count: How many these are.
    """
    places = torch.linspace(0, 1, count, dtype=torch.float64)
    coefficients = torch.stack([curve.coefficients(place[None]) for place in places])
    begun, free = list(control_points(curve, ends)), inner_points(curve)
    inverse = torch.linalg.pinv(coefficients[:, free])
    found = [begun[index].clone() for index in free]
    for row, weights, waypoint in zip(coefficients.tolist(), inverse.T.tolist(), waypoints, strict=True):
        missing = waypoint.clone()
        for share, point in zip(row, begun, strict=True):
            missing.sub_(point, alpha=share)
        for point, weight in zip(found, weights, strict=True):
            point.add_(missing, alpha=weight)
    for index, point in zip(free, found, strict=True):
        begun[index] = point
    return begun

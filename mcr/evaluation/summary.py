"""What metrics over a subspace say: barriers, area, worst place, with standard errors over images. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mcr.evaluation.bootstrap import Bootstrap, accelerated, interval, resampled
from mcr.evaluation.routes import Route, routes
from mcr.numerics.statistics import Values, standard_error


@dataclass(frozen=True)
class Grid:
    """The places at which metrics are known.

    Attributes:
        coordinates: What the coordinates of a place are called (dim).
        places: (T, dim).
        shares: Of each end in the initial blend there, (T, E): linear along a path, bilinear on a surface.
        ends: Names of the ends (E).
        arc: Arc length in weight space up to each place of a path (T,); empty for what is no path.
    """

    coordinates: tuple[str, ...]
    places: Values
    shares: Values
    ends: tuple[str, ...]
    arc: Values

    @property
    def corners(self) -> list[int]:
        """Where each end lies."""
        return [int(np.argmax(column == 1)) for column in self.shares.T]

    @property
    def inner(self) -> list[int]:
        """The places that are no end."""
        return [index for index in range(len(self.places)) if index not in self.corners]

    def routes(self, mean: Values) -> list[Route]:
        """The paths of least loss between the ends, from a metric at every place (T,), worse when higher."""
        return routes(self.places, dict(zip(self.ends, self.corners, strict=True)), mean)

    def where(self, index: int) -> dict[str, float]:
        """Coordinate to value of a place."""
        return dict(zip(self.coordinates, map(float, self.places[index]), strict=True))


def summarize(grid: Grid, values: Mapping[str, Values], bootstrap: Bootstrap) -> dict[str, dict[str, float]]:
    """Barriers of each metric; every metric is worse when higher (losses, errors).

    With m(u) the mean over images and blend(u) = sum_i w_i(u) m(end_i), w the shares of the initial blend (along a path
    the straight line between the two ends):

    - the name of each end: its mean.
    - ``barrier``: max over u of m(u) - max_i m(end_i); 0 at an end, so it is never negative.
    - ``interior``: the same maximum over places that are no end; negative where the subspace stays below its highest.
    - ``barrier_above_line``: max over u of m(u) - blend(u) (Frankle et al. 2020, with the line as reference).
    - ``area``: the mean over the domain of the positive part of m(u) - blend(u); along a path by the trapezoidal rule.
    - ``least_route``: of what is no path, the highest rise above the higher of two ends along the path of least loss
      between them (see ``routes``), of all pairs of ends; left out where the places are no grid.
    - ``length_mean``: along a path, the mean of m weighted by arc length, trapezoidal rule (Garipov et al. 2018).

    Each barrier has its standard error over images, from the per-image differences (the same images everywhere), at
    the place where the maximum lies; ``interior`` also has ``interior_low`` and ``interior_high``, a bootstrap
    interval over images in which the maximum is taken anew in every draw: BCa, with ``interior_bca`` 1. Where BCa says
    nothing (of one image, of equal images, with every draw on one side) it is the percentile interval, and
    ``interior_bca`` is 0.

    Args:
        grid: T places, at least one of them no end.
        values: Metric to per-image values (T, N).
        bootstrap: Of the intervals.
    """
    return {name: _metric(grid, per_image.astype(np.float64), bootstrap) for name, per_image in values.items()}


def _metric(grid: Grid, per_image: Values, bootstrap: Bootstrap) -> dict[str, float]:
    mean = per_image.mean(axis=1)
    corners, inside = grid.corners, np.asarray(grid.inner)
    blend, blends = grid.shares @ mean[corners], grid.shares @ per_image[corners]
    highest = max(corners, key=lambda index: mean[index])
    worst, above = int(np.argmax(mean)), int(np.argmax(mean - blend))
    inner = int(inside[np.argmax(mean[inside])])
    excess = np.clip(mean - blend, 0, None)
    drawn = resampled([per_image], bootstrap)[0]
    rises = drawn[:, inside].max(1) - drawn[:, corners].max(1)
    found = accelerated(rises, float(mean[inner] - mean[highest]), _left_out(per_image, inside, corners), bootstrap)
    low, high = found or interval(rises, bootstrap)
    path = len(grid.coordinates) == 1
    return {
        **{name: float(mean[index]) for name, index in zip(grid.ends, corners, strict=True)},
        "min": float(mean.min()),
        "max": float(mean.max()),
        "mean": float(mean.mean()),
        **({"length_mean": _along(mean, grid.arc)} if path else {}),
        **{f"worst_{name}": value for name, value in grid.where(worst).items()},
        "barrier": float(mean[worst] - mean[highest]),
        "barrier_se": standard_error(per_image[worst] - per_image[highest]),
        "interior": float(mean[inner] - mean[highest]),
        "interior_se": standard_error(per_image[inner] - per_image[highest]),
        "interior_low": low,
        "interior_high": high,
        "interior_bca": float(found is not None),
        **{f"interior_{name}": value for name, value in grid.where(inner).items()},
        "barrier_above_line": float(mean[above] - blend[above]),
        "barrier_above_line_se": standard_error(per_image[above] - blends[above]),
        "area": float(np.trapezoid(excess, grid.places[:, 0])) if path else float(excess.mean()),
        **({} if path else _least_route(grid, mean)),
    }


def _left_out(per_image: Values, inside: Values, corners: list[int]) -> Values:
    """The rise above the highest end without each image in turn (N); nothing of a single one."""
    count = per_image.shape[1]
    if count < 2:
        return np.empty(0)
    means = (per_image.sum(axis=1, keepdims=True) - per_image) / (count - 1)
    rises: Values = means[inside].max(0) - means[corners].max(0)
    return rises


def _least_route(grid: Grid, mean: Values) -> dict[str, float]:
    rises = [route.rise for route in grid.routes(mean)]
    return {"least_route": max(rises)} if rises else {}


def _along(mean: Values, arc: Values) -> float:
    return float(np.trapezoid(mean, arc) / arc[-1]) if arc[-1] > 0 else float(mean.mean())


def over_replicates(values: Sequence[float], level: float) -> dict[str, float]:
    """One statistic over replicates (seeds): number, mean, standard error, interval (Student), extremes."""
    from scipy.special import stdtrit  # not with the module: the views of the command line do without it

    array, error = np.asarray(values), standard_error(np.asarray(values))
    half = float(stdtrit(len(array) - 1, (1 + level) / 2)) * error if len(array) > 1 else float("nan")
    return {
        "replicates": len(array),
        "mean": float(array.mean()),
        "se": error,
        "low": float(array.mean()) - half,
        "high": float(array.mean()) + half,
        "min": float(array.min()),
        "max": float(array.max()),
    }

"""What a path's metrics say: barriers, area, worst point, with standard errors over images. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mcr.evaluation.bootstrap import Values, interval, resampled

NEUTRAL = ("eigenvector_alignment", "eigenvalue_residual")


def summarize(t: list[float], arc: list[float], values: Mapping[str, Values]) -> dict[str, dict[str, float]]:
    """Barriers of each metric; every metric is worse when higher (losses, errors).

    With m(t) the mean over images, line(t) the straight line between m(0) and m(1):

    - ``barrier``: max over t of m(t) - max(m(0), m(1)); 0 at an end, so it is never negative.
    - ``interior``: the same maximum over interior points only; negative where the path stays below its higher end.
    - ``barrier_above_line``: max over t of m(t) - line(t) (Frankle et al. 2020, with the line as reference).
    - ``area``: the integral over t of the positive part of m(t) - line(t), trapezoidal rule.
    - ``length_mean``: the mean of m weighted by arc length, trapezoidal rule (Garipov et al. 2018).

    Each barrier has its standard error over images, from the per-image differences (the same images at every t),
    at the t where the maximum lies; ``interior`` also has ``interior_low`` and ``interior_high``, a 95 % bootstrap
    interval over images in which the maximum is taken anew in every draw.

    Args:
        t: Grid (T,), from 0 to 1, with at least one point between.
        arc: Arc length in weight space up to each t (T,).
        values: Metric to per-image values (T, N).
    """
    return {name: _metric(np.asarray(t), np.asarray(arc), per_image) for name, per_image in values.items()}


def _metric(t: Values, arc: Values, per_image: Values) -> dict[str, float]:
    per_image = per_image.astype(np.float64)
    mean = per_image.mean(axis=1)
    line = (1 - t) * mean[0] + t * mean[-1]
    lines = np.outer(1 - t, per_image[0]) + np.outer(t, per_image[-1])
    higher = 0 if mean[0] >= mean[-1] else len(t) - 1
    worst = int(np.argmax(mean))
    inner = 1 + int(np.argmax(mean[1:-1]))
    above = int(np.argmax(mean - line))
    excess = np.clip(mean - line, 0, None)
    drawn = resampled([per_image])[0]
    low, high = interval(drawn[:, 1:-1].max(1) - drawn[:, [0, -1]].max(1))
    return {
        "start": float(mean[0]),
        "end": float(mean[-1]),
        "min": float(mean.min()),
        "max": float(mean.max()),
        "mean": float(mean.mean()),
        "length_mean": float(np.trapezoid(mean, arc) / arc[-1]) if arc[-1] > 0 else float(mean.mean()),
        "worst_t": float(t[worst]),
        "barrier": float(mean[worst] - mean[higher]),
        "barrier_se": standard_error(per_image[worst] - per_image[higher]),
        "interior": float(mean[inner] - mean[higher]),
        "interior_se": standard_error(per_image[inner] - per_image[higher]),
        "interior_low": low,
        "interior_high": high,
        "interior_t": float(t[inner]),
        "barrier_above_line": float(mean[above] - line[above]),
        "barrier_above_line_se": standard_error(per_image[above] - lines[above]),
        "area": float(np.trapezoid(excess, t)),
    }


def over_replicates(values: list[float]) -> dict[str, float]:
    """One statistic over replicates (seeds): number, mean, standard error, 95 % interval (Student), extremes."""
    from scipy.stats import t as student  # takes a second to load, which the views of the command line do not have

    array, error = np.asarray(values), standard_error(np.asarray(values))
    half = float(student.ppf(0.975, len(array) - 1)) * error if len(array) > 1 else float("nan")
    return {
        "replicates": len(array),
        "mean": float(array.mean()),
        "se": error,
        "low": float(array.mean()) - half,
        "high": float(array.mean()) + half,
        "min": float(array.min()),
        "max": float(array.max()),
    }


def standard_error(differences: Values) -> float:
    """Of the mean of independent values (N,); NaN for a single one."""
    return float(differences.std(ddof=1) / np.sqrt(len(differences))) if len(differences) > 1 else float("nan")


def as_costs(per_image: Mapping[str, Any]) -> dict[str, Values]:
    """Per-image losses and correctness (T, N) as metrics that are worse when higher: accuracies become errors.

    What is neither better nor worse when higher is left out.
    """
    costs = {}
    for name, values in per_image.items():
        if name in NEUTRAL:
            continue
        array = np.asarray(values, dtype=np.float64)
        if name.endswith("_accuracy"):
            costs[name.replace("_accuracy", "_error")] = 1 - array
        else:
            costs[name] = array
    return costs

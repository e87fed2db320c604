"""The bootstrap over images, and correlations along a path with their intervals. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcr.errors import InputError
from mcr.numerics.statistics import Values

AT_ONCE = 100  # draws whose weights are held together
ROUNDING = 1e-12  # relative: what sums of equal numbers differ by


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
        draws: Resamples of the images.
        level: Of the intervals, in (0, 1).
    """

    draws: int
    level: float

    def __post_init__(self) -> None:
        if self.draws < 1 or not 0 < self.level < 1:
            raise InputError(f"statistics: draws={self.draws} at least 1, level={self.level} between 0 and 1")


def resampled(metrics: Sequence[Values], bootstrap: Bootstrap) -> list[Values]:
    """Means of per-image values under the bootstrap: of each metric (T, N) the means (draws, T).

    Images get independent Poisson(1) weights instead of multinomial counts, the same weights in every metric: metrics
    of fewer images are of the first of them, so what images have in common stays in common (Hanley and MacGibbon 2006).
    """
    draw = np.random.default_rng(0)
    most = max(metric.shape[1] for metric in metrics)
    means: list[list[Values]] = [[] for _ in metrics]
    for begin in range(0, bootstrap.draws, AT_ONCE):
        weights = draw.poisson(1.0, (min(AT_ONCE, bootstrap.draws - begin), most)).astype(np.float64)
        for found, metric in zip(means, metrics, strict=True):
            count = metric.shape[1]
            share = weights[:, :count]
            total = share.sum(1, keepdims=True)
            # A draw that leaves no image has no mean.
            found.append((share @ metric.T) / np.where(total > 0, total, np.nan))
    return [np.concatenate(found) for found in means]


def interval(draws: Values, bootstrap: Bootstrap) -> tuple[float, float]:
    """The percentile interval of a statistic over the draws in which it has a value; NaN if it has none in any."""
    known = draws[~np.isnan(draws)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - bootstrap.level) / 2, (1 + bootstrap.level) / 2])
    return float(low), float(high)


def accelerated(draws: Values, value: float, left_out: Values, bootstrap: Bootstrap) -> tuple[float, float] | None:
    """The bias-corrected and accelerated interval (BCa, Efron 1987) of a statistic.

    A maximum over places is biased upwards in every draw, and skewed: a percentile interval lies too high. The bias is
    read off the draws, the skewness off the values with each image left out.

    Args:
        draws: Of the statistic (draws); those without a value are not looked at.
        value: The statistic of all images.
        left_out: The statistic without each image in turn (N).
        bootstrap: Its level.

    Returns:
        None where the method does not say anything: no draw below or above the value, or no image that matters.
    """
    from scipy.special import ndtr, ndtri  # not with the module: the views of the command line do without it

    known = draws[~np.isnan(draws)]
    below = ((known < value).mean() + (known <= value).mean()) / 2 if len(known) else 0.0
    moved = len(left_out) > 0 and np.ptp(left_out) > ROUNDING * np.abs(left_out).max()
    if not 0 < below < 1 or not moved:
        return None
    less = left_out.mean() - left_out
    bias, acceleration = ndtri(below), float((less**3).sum()) / (6 * float((less**2).sum()) ** 1.5)
    shifted = bias + ndtri([(1 - bootstrap.level) / 2, (1 + bootstrap.level) / 2])
    low, high = np.quantile(known, ndtr(bias + shifted / (1 - acceleration * shifted)))
    return float(low), float(high)


def correlations(first: Values, second: Values, bootstrap: Bootstrap) -> dict[str, float]:
    """Pearson's and Spearman's correlation over t of the means of two per-image metrics (T, N) and (T, M).

    The intervals are over images: they say how well the two curves are known, not how two other networks would
    behave; neighbouring points of a path are not independent.
    """
    means = (first.mean(1)[None], second.mean(1)[None])
    draws = resampled([first, second], bootstrap)
    found = {}
    for name, kind in (("pearson", _pearson), ("spearman", _spearman)):
        found[name] = float(kind(*means)[0])
        found[f"{name}_low"], found[f"{name}_high"] = interval(kind(*draws), bootstrap)
    return found


def _pearson(first: Values, second: Values) -> Values:
    """Row by row; NaN where a row is constant up to rounding."""
    constant = np.zeros(len(first), bool)
    for values in (first, second):
        constant |= np.ptp(values, axis=1) <= ROUNDING * np.abs(values).max(1)
    first, second = (values - values.mean(1, keepdims=True) for values in (first, second))
    scale = np.where(constant, 0.0, np.sqrt((first**2).sum(1) * (second**2).sum(1)))
    found: Values = np.full(len(scale), np.nan)
    np.divide((first * second).sum(1), scale, out=found, where=scale > 0)
    return found


def _spearman(first: Values, second: Values) -> Values:
    from scipy.stats import rankdata  # takes a second to load, which the views of the command line do not have

    return _pearson(rankdata(first, axis=1), rankdata(second, axis=1))

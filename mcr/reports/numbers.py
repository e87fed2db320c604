"""The numbers that a job's summary holds. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from mcr.evaluation.table import metrics_of
from mcr.metric import Metric

ALONG = ("interior", "barrier_above_line", "area")  # statistics of a path beside its ends and the maximum inside
INSIDE, INTERIOR, AFTER = "max_inside", "interior", "after"


class Number(NamedTuple):
    """One number of a summary.

    Attributes:
        subspace: Along which it was measured; "" of a repair.
        metric: A cost (worse when higher); of a repair a metric as it is.
        statistic: An end, ``max_inside``, ``interior`` (the rise above the highest end), ``barrier_above_line``,
            ``area``; of a repair the network.
    """

    subspace: str
    metric: str
    statistic: str


def numbers(summary: Mapping[str, Any]) -> tuple[dict[str, Metric], dict[Number, float]]:
    """The metrics of a summary by name, and all of its numbers; NaN for one that is not finite.

    What a path was fitted on is context, not compared: such a metric has no label here.
    """
    return _of_repair(summary) if summary.get("kind") == "repair" else _of_paths(summary)


def _of_repair(summary: Mapping[str, Any]) -> tuple[dict[str, Metric], dict[Number, float]]:
    metrics = {name: Metric(**found) for name, found in summary["descriptions"].items()}
    values = {
        Number("", metric, network): value
        for metric, found in summary["metrics"].items()
        if metric in metrics
        for network, value in found.items()
    }
    return metrics, values


def _of_paths(summary: Mapping[str, Any]) -> tuple[dict[str, Metric], dict[Number, float]]:
    metrics: dict[str, Metric] = {}
    values: dict[Number, float] = {}
    for space, found in summary["subspaces"].items():
        fitted = {name for table in (found["table"], *found["apart"].values()) for name in table["fitted"]}
        metrics |= {metric.cost: _cost(metric, metric.name in fitted) for metric in metrics_of(found)}
        for metric, statistics in found["metrics"].items():
            ends = {name: statistics[name] for name in summary["ends"]}
            told = {name: statistics[name] for name in ALONG}
            highest = float(np.max(list(ends.values())))  # NaN where one is, whatever the order
            known = {**ends, INSIDE: highest + told[INTERIOR], **told}
            values |= {Number(space, metric, statistic): value for statistic, value in known.items()}
    return metrics, values


def _cost(metric: Metric, context: bool) -> Metric:
    better = "lower" if metric.better == "higher" else metric.better
    return replace(metric, name=metric.cost, better=better, label="" if context else metric.label)

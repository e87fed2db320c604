"""Statements of a paper, compared with what came out."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from typing import Any

from mcr.errors import InputError

RELATIONS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


@dataclass(frozen=True)
class Verdict:
    """A claim, the measured value, and whether it held."""

    source: str
    statement: str
    measured: float
    held: bool

    @property
    def word(self) -> str:
        return "held" if self.held else "did not hold"


def judge(claim: Mapping[str, Any], metrics: Mapping[str, Mapping[str, float]], over: str = "images") -> Verdict | None:
    """Compare one claim with a summary; None where that was not measured, or its standard error is not known.

    Args:
        claim: ``source``; ``quantity`` as metric.statistic ("robust_loss.interior"); ``relation`` and ``value``;
            ``standard_errors``: how many standard errors the quantity must clear the value by.
        metrics: Metric to statistics, as ``summarize`` gives them.
        over: What the standard errors are over.

    Raises:
        InputError: For an unknown relation or statistic.
    """
    metric, _, statistic = claim["quantity"].partition(".")
    if claim["relation"] not in RELATIONS:
        raise InputError(f"claim {claim['source']}: relation {claim['relation']} must be one of {' '.join(RELATIONS)}")
    if metric not in metrics:
        return None
    if statistic not in metrics[metric]:
        raise InputError(f"claim {claim['source']}: {metric} has no {statistic}: {', '.join(metrics[metric])}")
    measured, margin = metrics[metric][statistic], 0.0
    if claim["standard_errors"]:
        if f"{statistic}_se" not in metrics[metric]:
            raise InputError(f"claim {claim['source']}: {metric}.{statistic} has no standard error")
        margin = claim["standard_errors"] * metrics[metric][f"{statistic}_se"]
        if isnan(margin):
            return None
    up = claim["relation"].startswith(">")
    bound = claim["value"] + margin if up else claim["value"] - margin
    text = f"{metric} {statistic} {claim['relation']} {claim['value']}"
    text += f" by {claim['standard_errors']} standard errors over {over} ({margin:.3f})" if margin else ""
    return Verdict(claim["source"], text, measured, bool(RELATIONS[claim["relation"]](measured, bound)))

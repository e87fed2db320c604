"""Statements of a paper, compared with what came out."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
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

    @property
    def asked(self) -> str:
        """The statement without its margin, which differs from path to path."""
        return re.sub(r" \(\d+\.\d+\)", "", self.statement)

    @property
    def sentence(self) -> str:
        """The claim in words, without the number that it has in its paper."""
        number, _, words = self.source.partition(", ")
        return words or number


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


def told(verdicts: Sequence[tuple[str, Verdict]]) -> list[tuple[str, str]]:
    """One line a claim, those that held everywhere first: "held" or "did not hold", and where it did not and why.

    Args:
        verdicts: Of a path by its name.
    """
    by_claim: dict[str, list[tuple[str, Verdict]]] = {}
    for name, verdict in verdicts:
        by_claim.setdefault(verdict.source, []).append((name, verdict))
    held, failed = [], []
    for found in by_claim.values():
        sentence, count = found[0][1].sentence, len(found)
        wrong = [(name, verdict) for name, verdict in found if not verdict.held]
        if not wrong:
            held.append(("held", f"{sentence}, in all {count}" if count > 1 else sentence))
            continue
        where = ", ".join(f"{name} {verdict.measured:.3f}" for name, verdict in wrong)
        asked = " and ".join(dict.fromkeys(verdict.asked for _, verdict in wrong))
        share = f", in {count - len(wrong)} of {count}" if count > 1 else ""
        failed.append(("did not hold", f"{sentence}{share}: {where}; asked is {asked}"))
    return held + failed

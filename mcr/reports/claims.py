"""Statements of a paper, compared with what came out."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, isnan
from typing import Any

from mcr.errors import InputError

ROUNDING = 1e-9  # a difference of two shares (0.265 - 0.245) may miss by less the bound (0.02) that it equals
RELATIONS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


@dataclass(frozen=True)
class Verdict:
    """A claim, the measured value, and whether it held.

    Attributes:
        source: Whose claim, and which.
        statement: What was asked.
        measured: None where that is no finite number.
        held: Whether it held.
        untested: Why the claim was not tested, whatever the value; "" where it was.
    """

    source: str
    statement: str
    measured: float | None
    held: bool
    untested: str = ""

    @property
    def word(self) -> str:
        if self.untested:
            return "not tested"
        return "held" if self.held else "did not hold"

    @property
    def value(self) -> str:
        """The measured value as text."""
        return "not finite" if self.measured is None else f"{self.measured:.3f}"

    def without_test(self, reasons: Sequence[str]) -> Verdict:
        """The same claim, not tested for these reasons beside its own; unchanged without any."""
        every = dict.fromkeys([*filter(None, [self.untested]), *reasons])
        return replace(self, held=False, untested="; ".join(every)) if every else self

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
    """Compare one claim with a summary; None where that was not measured.

    A claim about a value that is not finite, or whose standard error is not known, is not tested.

    Args:
        claim: ``source``; ``quantity`` as metric.statistic ("robust_loss.interior"); ``relation`` and ``value``;
            ``standard_errors``: how many standard errors the quantity must clear the value by. With ``less``, another
            statistic of the metric, the quantity is the difference, whose standard error is not known here.
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
    less = claim.get("less")
    for asked in (statistic, less) if less else (statistic,):
        if asked not in metrics[metric]:
            raise InputError(f"claim {claim['source']}: {metric} has no {asked}: {', '.join(metrics[metric])}")
    measured, margin = metrics[metric][statistic] - (metrics[metric][less] if less else 0.0), 0.0
    if claim["standard_errors"]:
        if less or f"{statistic}_se" not in metrics[metric]:
            raise InputError(f"claim {claim['source']}: {metric}.{statistic} has no standard error")
        margin = claim["standard_errors"] * metrics[metric][f"{statistic}_se"]
    up = claim["relation"].startswith(">")
    bound = claim["value"] + margin if up else claim["value"] - margin
    text = f"{metric} {statistic}{f' less {less}' if less else ''} {claim['relation']} {claim['value']}"
    if isnan(margin):
        unknown = f"the standard error of {metric} {statistic} over {over} is not known"
        return Verdict(claim["source"], text, measured, held=False, untested=unknown)
    text += f" by {claim['standard_errors']} standard errors over {over} ({margin:.3f})" if margin else ""
    if not isfinite(measured):
        return Verdict(claim["source"], text, None, held=False, untested=f"{metric} {statistic} is not finite")
    compared = bound if abs(measured - bound) < ROUNDING else measured
    return Verdict(claim["source"], text, measured, bool(RELATIONS[claim["relation"]](compared, bound)))


def told(verdicts: Sequence[tuple[str, Verdict]]) -> list[tuple[str, str]]:
    """One line a claim, those that held everywhere first: "held", "did not hold", and where it did not and why.

    Where a claim could not be tested it is told last, with the reasons; "all" are then those that were tested.

    Args:
        verdicts: Of a path by its name.
    """
    by_claim: dict[str, list[tuple[str, Verdict]]] = {}
    for name, verdict in verdicts:
        by_claim.setdefault(verdict.source, []).append((name, verdict))
    held, failed, untested = [], [], []
    for found in by_claim.values():
        sentence = found[0][1].sentence
        doubtful = [(name, verdict) for name, verdict in found if verdict.untested]
        tested = [(name, verdict) for name, verdict in found if not verdict.untested]
        wrong = [(name, verdict) for name, verdict in tested if not verdict.held]
        count = len(tested)
        if doubtful:
            reasons: dict[str, list[str]] = {}
            for name, verdict in doubtful:
                reasons.setdefault(verdict.untested, []).append(name)
            why = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
            share = f", {len(doubtful)} of {len(found)}" if len(found) > 1 else ""
            untested.append(("not tested", f"{sentence}{share}: {why}"))
        if tested and not wrong:
            told_of = f"in all {count}{' that were tested' if doubtful else ''}"
            held.append(("held", f"{sentence}, {told_of}" if len(found) > 1 else sentence))
        if wrong:
            where = ", ".join(f"{name} {verdict.value}" for name, verdict in wrong)
            asked = " and ".join(dict.fromkeys(verdict.asked for _, verdict in wrong))
            share = f", in {count - len(wrong)} of {count}" if count > 1 else ""
            failed.append(("did not hold", f"{sentence}{share}: {where}; asked is {asked}"))
    return held + failed + untested

"""Differences between levels of a factor, replicate by replicate. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from mcr.metric import Metric
from mcr.reports.factors import Design, Levels, Trial, over
from mcr.reports.numbers import Number
from mcr.reports.pivots import mean_text, narrow, said_of, short
from mcr.text import markdown_cell

SIGNED = "+"
MOST = 4000  # characters of a sentence that names many replicates


@dataclass(frozen=True)
class Difference:
    """A number at one level of a factor minus the same at another, over the replicates that have both.

    Attributes:
        factor: The one whose levels are compared.
        level: That stands first.
        against: That is taken away.
        others: Factor to level of all others, which are equal.
        number: Which.
        spread: The mean of the differences and its interval.
        unmatched: Replicates that have only one of the two levels.
    """

    factor: str
    level: str
    against: str
    others: Mapping[str, str]
    number: Number
    spread: Mapping[str, float]
    unmatched: Levels


def between_levels(design: Design, level: float) -> list[Difference]:
    """Every later level of every factor minus every earlier one, all other factors equal, pair by pair.

    Args:
        design: What was varied, and what came out.
        level: Of the intervals, in (0, 1).
    """
    return [found for factor in design.factors for found in _of(design, factor, level)]


def _of(design: Design, factor: str, level: float) -> Iterator[Difference]:
    others = [name for name in design.factors if name != factor]
    groups: dict[Levels, dict[str, dict[str, Trial]]] = {}
    for trial in design.trials:
        group = groups.setdefault(tuple(trial.levels[name] for name in others), {})
        group.setdefault(trial.levels[factor], {})[trial.replicate] = trial
    for equal, found in groups.items():
        same = dict(zip(others, equal, strict=True))
        for against, first in combinations([one for one in design.factors[factor] if one in found], 2):
            mine, other = found[first], found[against]
            alone = tuple(r for r in design.replicates if (r in mine) != (r in other))
            pairs = [(mine[r].values, other[r].values) for r in design.replicates if r in mine and r in other]
            for number in design.numbers:
                less = [one[number] - two[number] for one, two in pairs if number in one and number in two]
                if less or alone:
                    yield Difference(factor, first, against, same, number, over(less, level), alone)


def section(design: Design, differences: Sequence[Difference], shown: Sequence[Number], level: float) -> list[str]:
    """Levels against the first one of their factor, as Markdown; the file has all pairs.

    Args:
        design: The design.
        differences: Of it.
        shown: The numbers of the tables.
        level: Of the intervals.
    """
    parts = []
    for factor, levels in design.factors.items():
        found = [d for d in differences if (d.factor, d.against) == (factor, levels[0])]
        parts += _against(design.metrics, factor, [one for one in found if one.spread and one.number in shown])
    lonely = dict.fromkeys(
        f"{said_of(one.factor, one.level)} and {said_of(one.factor, one.against)}{_where(one.others)}: replicate "
        f"{', '.join(one.unmatched)}"
        for one in differences
        if one.unmatched
    )
    alone = [f"Left out, as only one of the two levels has them: {markdown_cell('; '.join(lonely), MOST)}."]
    if parts:
        single = any(one.spread["replicates"] == 1 for one in differences if one.spread)
        parts.append(
            "A level minus the first one of its factor, all other factors equal, replicate by replicate: the mean of "
            f"the n differences, ± half the width of its {level:.0%} interval (Student's t over replicates)."
            f"{' Of one pair there is no interval.' if single else ''} All pairs of levels and all statistics: "
            "differences.csv."
        )
    parts += alone if lonely else []
    return ["\n\n".join(["## Paired differences", *parts]) + "\n"] if parts else []


def _against(metrics: Mapping[str, Metric], factor: str, known: Sequence[Difference]) -> list[str]:
    """The table of one factor."""
    if not known:
        return []
    others = list(known[0].others)
    numbers = list(dict.fromkeys(one.number for one in known))
    rows: dict[Levels, dict[Number, Difference]] = {}
    for one in known:
        rows.setdefault((one.level, *one.others.values()), {})[one.number] = one
    head = [short(factor), *map(short, others), "n", *(metrics[number.metric].title() for number in numbers)]
    text = [
        [
            *key,
            " or ".join(sorted({str(one.spread["replicates"]) for one in row.values()})),
            *(
                mean_text(metrics[number.metric], row[number].spread, SIGNED) if number in row else ""
                for number in numbers
            ),
        ]
        for key, row in rows.items()
    ]
    title = f"**{markdown_cell(factor)}: less {markdown_cell(known[0].against)}**"
    return [title, *narrow(head, text, len(others) + 2)]


def _where(others: Mapping[str, str]) -> str:
    said = ", ".join(said_of(*one) for one in others.items())
    return f" at {said}" if said else ""


def record(one: Difference, factors: Iterable[str]) -> dict[str, Any]:
    """For a file; a difference without pairs has no mean."""
    spread = one.spread or {"replicates": 0, "mean": float("nan"), "low": float("nan"), "high": float("nan")}
    return {
        "factor": one.factor,
        "level": one.level,
        "against": one.against,
        **dict.fromkeys(factors, ""),
        **one.others,
        **one.number._asdict(),
        "n": spread["replicates"],
        **{name: spread[name] for name in ("mean", "low", "high")},
        "unmatched": " ".join(one.unmatched),
    }

"""What a report says of an attack's strength, of correlations, and of networks asked together. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from mcr.evaluation.bootstrap import Bootstrap, correlations
from mcr.evaluation.measured import Measure, Measured
from mcr.evaluation.table import markdown
from mcr.metric import Metric
from mcr.numerics.statistics import standard_error
from mcr.reports import images
from mcr.text import markdown_cell

Found = Mapping[str, Any]
SHARE = Metric("accuracy", "share", "higher", "")  # how accuracies under stronger attacks are written


def correlated(measured: Measured, pairs: Sequence[Sequence[str]], bootstrap: Bootstrap) -> dict[str, dict[str, float]]:
    """Correlations over places of pairs of metrics, as far as both are known.

    Args:
        measured: Of one subspace.
        pairs: Names of metrics.
        bootstrap: Of the intervals over images.
    """
    values = {name: one.values[name] for one in measured.along.values() for name in one.values}
    return {
        f"{first}_and_{second}": correlations(
            values[first].astype(np.float64), values[second].astype(np.float64), bootstrap
        )
        for first, second in pairs
        if first in values and second in values
    }


def correlation_note(found: Mapping[str, Mapping[str, float]], metric: str) -> str:
    """What a figure says of a metric that is correlated with another."""
    for name, values in found.items():
        first, second = name.split("_and_")
        if second == metric and values["pearson"] is not None and isfinite(values["pearson"]):
            return f"Pearson with {first.replace('_', ' ')} {values['pearson']:.2f}"
    return ""


def correlation_section(found: Mapping[str, Mapping[str, float]], counts: images.Counts) -> str:
    """One line a pair of metrics, with intervals over images."""
    lines = [
        f"- {markdown_cell(pair_title(name))}: Pearson {_with_interval(values, 'pearson')}, "
        f"Spearman {_with_interval(values, 'spearman')}"
        for name, values in found.items()
    ]
    text = "Over the points of the path; intervals: bootstrap over images."
    said = images.line([("", images.spoken(counts, [metric for name in found for metric in name.split("_and_")]))])
    return "## Correlations\n\n" + "\n".join(lines) + f"\n\n{text} {said}\n"


def pair_title(name: str) -> str:
    """A pair of metrics as words."""
    return name.replace("_and_", " and ").replace("_", " ")


def _with_interval(found: Mapping[str, float], kind: str) -> str:
    if found[kind] is None or not isfinite(found[kind]):
        return "not known, as one of the two is constant"
    return f"{found[kind]:.3f} [{number(found[f'{kind}_low'])}, {number(found[f'{kind}_high'])}]"


def stronger(measured: Measured, probe: str, reported: str) -> list[dict[str, Any]]:
    """Every stronger attack beside the reported one, on the same images: one row an attack and place.

    Args:
        measured: Of one subspace.
        probe: Its stronger attacks.
        reported: The metric of the reported attack's accuracy.
    """
    one = measured.measures[probe]
    own = next(found for found in measured.along.values() if reported in found.values)
    rows = []
    for index, place in enumerate(one.grid.places.tolist()):
        before = own.values[reported][own.grid.places.tolist().index(place)].astype(np.float64)[: one.images]
        for metric in one.metrics:
            after = one.values[metric.name][index].astype(np.float64)[: len(before)]
            rows.append(
                {
                    "at": one.where[index],
                    "attack": metric.name.removeprefix(f"{probe}_").removesuffix("_accuracy"),
                    "images": len(before),
                    "reported": float(before.mean()),
                    "stronger": float(after.mean()),
                    "advantage": float(before.mean() - after.mean()),
                    "advantage_se": standard_error(before),
                }
            )
    return rows


def warnings(rows: Sequence[Found], together: Mapping[str, Found]) -> list[str]:
    """Where a stronger attack, or one from another point, beats the reported number by more than its standard error.

    Args:
        rows: See ``stronger``.
        together: Probe of several networks to its statistics.
    """
    lines = []
    beaten = [row for row in rows if row["advantage"] > row["advantage_se"]]
    if beaten:
        worst = max(beaten, key=lambda row: row["advantage"])
        count, places = len({row["at"] for row in beaten}), len({row["at"] for row in rows})
        lines.append(
            f"at {count} of {places} points a stronger attack beats the reported one: at {worst['at']} the attack "
            f"{worst['attack']} leaves {100 * worst['stronger']:.1f} % of {worst['images']} images standing, the "
            f"reported one {100 * worst['reported']:.1f} %; take more steps or restarts, and suspect masked gradients "
            "where these do not help"
        )
    for found in together.values():
        if "advantage" in found and found["advantage"] > found["advantage_se"]:
            lines.append(
                f"at {found['at']} adversarial images made at another point of the path break "
                f"{100 * found['advantage']:.1f} points more than the white-box attack: gradients are masked there"
            )
    return lines


def warning_lines(found: Sequence[str]) -> list[str]:
    """Warnings as they stand at the head of a report."""
    return [f"> **Warning:** {markdown_cell(line)}.\n" for line in found]


def stronger_section(rows: Sequence[Found]) -> str:
    """Every stronger attack beside the reported one."""
    lines = [
        [
            row["at"],
            row["attack"],
            f"{100 * row['reported']:.1f}{SHARE.error(row['advantage_se'])}",
            f"{100 * row['stronger']:.1f}",
        ]
        for row in rows
    ]
    table = markdown(["at", "attack", "reported, robust acc %", "under this attack"], lines)
    text = (
        f"On {rows[0]['images']} images, ± the standard error of the reported number: an attack that leaves "
        "less standing than that is warned of at the head of the report."
    )
    return f"## Is the attack masked?\n\n{table}\n\n{text}\n"


def together_section(name: str, one: Measure) -> str:
    """What a probe of several networks at once has found: matrices, lines along the path, and numbers."""
    places = one.where
    which = images.SPOKEN.get(one.data, f"{one.data} split")
    heading = markdown_cell(name.replace("_", " ").capitalize())
    sections = [f"## {heading}\n\n{one.images} images, {len(places)} points; images: {which}.\n"]
    for metric in one.metrics:
        mean = one.mean(metric.name)
        if mean.ndim == 2:
            rows = [[where, *(metric.text(value) for value in line)] for where, line in zip(places, mean, strict=True)]
            sections.append(f"{metric.title()}:\n\n{markdown(['', *places], rows)}\n")
        elif mean.ndim == 1:
            sections.append(f"{metric.title()}:\n\n{markdown(['', *places], [['', *map(metric.text, mean)]])}\n")
    numbers = [[key.replace("_", " "), number(value)] for key, value in one.statistics.items()]
    sections.append(markdown(["statistic", "value"], numbers) + "\n")
    return "\n".join(sections)


def number(value: float | str | None) -> str:
    """A statistic as text; what is not finite is said in words."""
    if isinstance(value, str):
        return value
    return f"{value:.3f}" if value is not None and isfinite(value) else "not finite"


def infinite(measured: Measured) -> list[str]:
    """One warning for each metric or statistic of a subspace of which a mean is not finite, but for places along it.

    Those are refused where they are measured; that a standard error is not known, as of one image, is no news.
    """
    found = []
    for probe, one in measured.measures.items():
        for column, means in one.given.items():
            ends = [name for name, mean in zip(one.grid.ends, means, strict=True) if not isfinite(mean)]
            if ends:
                given = f"as {'they were' if len(ends) > 1 else 'it was'} given, with the stored BatchNorm statistics"
                found.append(f"{column.replace('_', ' ')} of {' and '.join(ends)}, {given}, is not finite")
        for metric in one.metrics if one.together else ():
            places = (~np.isfinite(one.mean(metric.name))).sum()
            if places:
                found.append(f"{metric.name.replace('_', ' ')} is not finite at {places} of its places")
        numbers = {name: value for name, value in one.statistics.items() if not isinstance(value, str)}
        wrong = [name for name, value in numbers.items() if not isfinite(value) and not name.endswith("_se")]
        if wrong:
            said = ", ".join(name.replace("_", " ") for name in wrong)
            found.append(f"of {probe.replace('_', ' ')}, {said} is not finite")
    return found

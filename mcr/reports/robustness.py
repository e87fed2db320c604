"""What a report says of an attack's strength, of curvature, and of the points of a path together. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mcr.evaluation.table import markdown

Found = Mapping[str, Any]
LABELS = {
    "robust_loss_and_input_eigenvalue": "robust loss and largest input eigenvalue",
    "robust_loss_and_input_gradient_norm": "robust loss and input-gradient norm",
}


def correlation_lines(correlations: Mapping[str, Mapping[str, float]]) -> list[str]:
    """One line a pair of metrics, with 95 % intervals over images."""
    return [
        f"{LABELS[name]} over t: Pearson {_with_interval(found, 'pearson')}, "
        f"Spearman {_with_interval(found, 'spearman')}"
        for name, found in correlations.items()
    ]


def _with_interval(found: Mapping[str, float], kind: str) -> str:
    return f"{found[kind]:.3f} [{found[f'{kind}_low']:.3f}, {found[f'{kind}_high']:.3f}]"


def correlation_note(correlations: Mapping[str, Mapping[str, float]]) -> str:
    """What the figure says of the eigenvalue and the robust loss."""
    found = correlations.get("robust_loss_and_input_eigenvalue")
    return f"Pearson with robust loss {found['pearson']:.2f}" if found else ""


def warnings(beside: Mapping[str, Found]) -> list[str]:
    """Where a stronger attack, or one from another point, beats the reported number by more than its standard error.

    Args:
        beside: What the stages ``guard`` and ``relations`` found, as far as they ran.
    """
    lines = []
    rows = beside.get("guard", {"rows": []})["rows"]
    beaten = [row for row in rows if row["advantage"] > row["advantage_se"]]
    if beaten:
        worst = max(beaten, key=lambda row: row["advantage"])
        count, places = len({row["t"] for row in beaten}), len({row["t"] for row in rows})
        lines.append(
            f"at {count} of {places} points a stronger attack beats the reported one: at t = {worst['t']:.2f} "
            f"`{worst['attack']}` leaves {100 * worst['stronger']:.1f} % of {worst['images']} images standing, the "
            f"reported one {100 * worst['reported']:.1f} %; take more steps or restarts, and suspect masked gradients "
            "where these do not help"
        )
    crossed = beside.get("relations", {"metrics": {}})["metrics"].get("transfer")
    if crossed and crossed["advantage"] > crossed["advantage_se"]:
        lines.append(
            f"at t = {crossed['at']:.2f} adversarial images made at another point of the path break "
            f"{100 * crossed['advantage']:.1f} points more than the white-box attack: gradients are masked there"
        )
    return lines


def sections(curve: Found, beside: Mapping[str, Found]) -> list[str]:
    """All that is known of one path, as sections.

    Args:
        curve: What its evaluation found.
        beside: See ``warnings``.
    """
    found = [guard_section(beside["guard"])] if "guard" in beside else []
    found += [correlation_section(curve["correlations"], curve["curvature"])] if "curvature" in curve else []
    return [*found, *([relations_section(beside["relations"])] if "relations" in beside else [])]


def warning_lines(found: Sequence[str]) -> list[str]:
    """Warnings as they stand at the head of a report."""
    return [f"> **Warning:** {line}.\n" for line in found]


def guard_section(guard: Found) -> str:
    """Every stronger attack beside the reported one."""
    rows = [
        [
            f"{row['t']:.2f}",
            row["attack"],
            f"{100 * row['reported']:.1f} ± {100 * row['advantage_se']:.1f}",
            f"{100 * row['stronger']:.1f}",
        ]
        for row in guard["rows"]
    ]
    table = markdown(["t", "attack", "reported, robust acc %", "under this attack"], rows)
    text = (
        f"On {guard['rows'][0]['images']} images, ± the standard error of the reported number: an attack that leaves "
        "less standing than that is warned of at the head of the report."
    )
    return f"## Is the attack masked?\n\n{table}\n\n{text}\n"


def correlation_section(correlations: Mapping[str, Mapping[str, float]], curvature: Found) -> str:
    """The correlations, and how the eigenvalues were found."""
    lines = "\n".join(f"- {line}" for line in correlation_lines(correlations))
    if curvature["method"] == "exact":
        method = "exact (the network is piecewise linear in its input)"
    else:
        method = f"by Lanczos, residual at most {curvature['largest_residual']:.1e}"
    text = f"Eigenvalues on {curvature['images']} images, {method}. Intervals: 95 %, bootstrap over images."
    return f"## Curvature in the input\n\n{lines}\n\n{text}\n" if lines else f"## Curvature in the input\n\n{text}\n"


def relations_section(found: Found) -> str:
    """Transfer matrix, ensemble, gradient similarity."""
    t = [f"{value:.2f}" for value in found["t"]]
    sections = [f"## Points of the path together\n\n{found['images']} test images.\n"]
    if "transfer" in found:
        rows = [
            [made, *(f"{100 * v:.1f}" for v in line)]
            for made, line in zip(t, found["transfer"]["accuracy"], strict=True)
        ]
        sections.append(
            "Robust accuracy % of the network at t (columns) on adversarial images made at t (rows):\n\n"
            + markdown(["made at", *t], rows)
            + "\n"
        )
        ensemble = found["metrics"]["ensemble"]
        sections.append(
            f"The mean of the {len(t)} networks' probabilities, attacked as one: clean accuracy "
            f"{100 * ensemble['clean_accuracy']:.1f} %, robust accuracy {100 * ensemble['robust_accuracy']:.1f} %; the "
            f"best single point {100 * ensemble['best_single']:.1f} % "
            f"(difference {100 * ensemble['gain']:+.1f} ± {100 * ensemble['gain_se']:.1f}).\n"
        )
    similar = {
        f"{name}, {role}": values
        for name, ends in found["gradient_similarity"].items()
        for role, values in ends.items()
    }
    rows = [[value, *(f"{values[index]:.3f}" for values in similar.values())] for index, value in enumerate(t)]
    sections.append(
        "Cosine between the input gradients at t and at an end (mean over images):\n\n"
        + markdown(["t", *similar], rows)
        + "\n"
    )
    return "\n".join(sections)

"""What a run says at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mcr.reports import cards, document, repairs, robustness
from mcr.reports.claims import Verdict

COLUMNS = ("metric", "start", "inside", "at t", "end", "above higher end")
WIDTHS = (14, 6, 6, 4, 6, 16)


def print_results(
    paths: Sequence[tuple[str, Mapping[str, Any]]],
    verdicts: Sequence[tuple[str, Verdict]],
    places: Mapping[str, Path | str],
) -> None:
    """The table of barriers, the claims, and where everything lies; eighty columns are enough.

    Args:
        paths: Name and summary of each path.
        verdicts: Path name and verdict.
        places: What, and where it lies.
    """
    console = Console()
    for name, summary in paths:
        reference = summary.get("reference", {"name": "", "metrics": None})
        # Area and the excess above the line are in the files.
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for index, (column, width) in enumerate(zip(COLUMNS, WIDTHS, strict=True)):
            table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True, min_width=width)
        if reference["metrics"]:
            table.add_column(reference["name"], justify="right", no_wrap=True)
        for metric in (metric for metric in document.SHOWN if metric in summary["curve"]["metrics"]):
            row = document.Barrier.of(metric, summary["curve"]["metrics"])
            other = [document.Barrier.of(metric, reference["metrics"]).interior] if reference["metrics"] else []
            table.add_row(row.metric, row.start, row.inside, row.at, row.end, f"{row.interior} ± {row.error}", *other)
        console.print()
        console.print(escape(name), style="bold", soft_wrap=True, highlight=False)
        console.print(table)
        note = robustness.correlation_note(summary["curve"].get("correlations", {}))
        if note:
            console.print(f"input eigenvalue over t: {note}", highlight=False)
        for warning in summary.get("warnings", []):
            console.print(f"[yellow]warning[/yellow]: {escape(warning)}", highlight=False, soft_wrap=True)
    if verdicts:
        console.print()
    for name, verdict in verdicts:
        style = "green" if verdict.held else "red"
        line = (
            f"{escape(name)}: {verdict.statement}; measured {verdict.measured:.3f}: [{style}]{verdict.word}[/{style}]"
        )
        console.print(line, highlight=False, soft_wrap=True)
    console.print()
    for what, place in places.items():
        console.print(escape(f"{what:<8} {place}"), highlight=False, soft_wrap=True)


def print_repairs(summaries: Sequence[Mapping[str, Any]], places: Mapping[str, Path | str]) -> None:
    """What each repair did to accuracy and attack, its warnings and claims, and where everything lies."""
    console = Console()
    for summary in summaries:
        names = [name for name in cards.NETWORKS if name in summary["metrics"]["clean_accuracy"]]
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("", no_wrap=True)
        for name in names:
            table.add_column(cards.NETWORKS[name], justify="right", no_wrap=True)
        for metric, values in cards.known(summary["metrics"]):
            table.add_row(cards.METRICS[metric], *(cards.percent(values[name]) for name in names))
        console.print()
        console.print(escape(summary["title"]), style="bold", soft_wrap=True, highlight=False)
        console.print(table)
        chosen = ", ".join(f"{name} {value:g}" for name, value in summary["chosen"].items() if name in cards.LABELS)
        console.print(f"chosen on held-out clean images: {chosen}", highlight=False, soft_wrap=True)
        for warning in summary["warnings"]:
            console.print(f"[yellow]warning[/yellow]: {escape(warning)}", highlight=False, soft_wrap=True)
        for claim in summary["claims"]:
            verdict = Verdict(**claim)
            style = "green" if verdict.held else "red"
            text = f"{escape(verdict.statement)}; measured {verdict.measured:.3f}: [{style}]{verdict.word}[/{style}]"
            console.print(text, highlight=False, soft_wrap=True)
    console.print()
    for what, place in places.items():
        console.print(escape(f"{what:<8} {place}"), highlight=False, soft_wrap=True)


def print_comparison(
    rows: Sequence[Mapping[str, Any]], verdicts: Sequence[tuple[str, Verdict]], places: Mapping[str, Path | str]
) -> None:
    """Repairs side by side, how many claims held, and where everything lies."""
    console = Console()
    for setting in dict.fromkeys(row["setting"] for row in rows):
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for index, column in enumerate(("repair", "N", "replicates", "clean accuracy %", "attack success %")):
            table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
        for row in (row for row in rows if row["setting"] == setting):
            attack = next((name for name in ("attack_success", "injection_success") if f"{name}_after" in row), None)
            cells = [repairs.cell(row, f"{name}_after") for name in ("clean_accuracy", attack) if name]
            table.add_row(row["repair"], str(row["images"]), str(row["replicates"]), *cells)
        console.print()
        console.print(escape(setting), style="bold", soft_wrap=True, highlight=False)
        console.print(table)
    counts: dict[tuple[str, str], list[bool]] = {}
    for _, verdict in verdicts:
        counts.setdefault((verdict.source, verdict.statement), []).append(verdict.held)
    console.print()
    for (source, statement), held in counts.items():
        line = f"{source}: {statement}: held in {sum(held)} of {len(held)}"
        console.print(escape(line), highlight=False, soft_wrap=True)
    console.print()
    for what, place in places.items():
        console.print(escape(f"{what:<8} {place}"), highlight=False, soft_wrap=True)

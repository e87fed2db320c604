"""What a run says at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mcr.evaluation.table import metrics_of
from mcr.metric import Metric
from mcr.reports import cards, document, repairs, robustness
from mcr.reports.claims import Verdict, told
from mcr.reports.factors import REPLICATE
from mcr.reports.merged import SHARE
from mcr.reports.overview import Overview
from mcr.reports.pivots import parts
from mcr.selection.choice import ESTIMATE
from mcr.text import printable

FEW = 2  # ends that fit into a line; of more the highest is shown
FITTED = "path"
STYLES = {"held": "green", "did not hold": "red", "not tested": "yellow"}
MOST = 4000  # characters of a sentence or a path: whole, for they are read or copied


def _shown(text: str) -> str:
    """Text of the user's, which may be anything, as a line for the console."""
    return escape(printable(text, MOST))


def print_overview(overview: Overview) -> None:
    """How a sweep ended: its jobs, what was varied, and the one number that matters by it."""
    console = Console()
    console.print()
    count = overview.finished + overview.failed
    told = f"{count} jobs: {overview.finished} finished, {overview.failed} failed"
    console.print(told, style="bold", highlight=False)
    varied = {**overview.factors, **({REPLICATE: overview.replicates} if len(overview.replicates) > 1 else {})}
    for name, levels in varied.items():
        console.print(_shown(f"{name}: {', '.join(levels)}"), highlight=False, soft_wrap=True)
    for head, rows in parts(overview.head, overview.rows, overview.labels) if overview.factors else ():
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for index, column in enumerate(head):
            table.add_column(_shown(column), justify="left" if index < overview.labels else "right", no_wrap=True)
        for row in rows:
            table.add_row(*map(_shown, row))
        console.print()
        console.print(_shown(overview.title), highlight=False, soft_wrap=True)
        console.print(table)
        if overview.note:
            console.print(_shown(overview.note), highlight=False, soft_wrap=True)


def print_results(
    paths: Sequence[tuple[str, Mapping[str, Any]]],
    verdicts: Sequence[tuple[str, Verdict]],
    places: Mapping[str, Path | str],
) -> None:
    """The table of barriers, the claims, and where everything lies; eighty columns are enough.

    Args:
        paths: Name and summary of each run.
        verdicts: Path name and verdict.
        places: What, and where it lies.
    """
    console = Console()
    for name, summary in paths:
        spaces = dict(summary["subspaces"])
        fitted = spaces.pop(FITTED)
        metrics = metrics_of(fitted)
        others = [
            (one["label"], {b.metric: b for b in document.barriers(metrics, one["metrics"], summary["ends"])})
            for one in spaces.values()
        ]
        # Area and the excess above the line are in the files.
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        few = len(summary["ends"]) <= FEW
        columns = ["metric", "ends" if few else "highest\nend", "inside", "at", "above highest end"]
        columns += [_shown(label).replace(" ", "\n") for label, _ in others]
        for index, column in enumerate(columns):
            table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
        for row in document.barriers(metrics, fitted["metrics"], summary["ends"]):
            beside = [found[row.metric].interior if row.metric in found else "" for _, found in others]
            ends = " / ".join(row.ends) if few else max(row.ends, key=float)
            table.add_row(_shown(row.metric), ends, row.inside, row.at, row.rise, *beside)
        console.print()
        console.print(_shown(name), style="bold", soft_wrap=True, highlight=False)
        console.print(table)
        for pair, found in fitted["correlations"].items():
            if found["pearson"] is not None:
                spoken = _shown(robustness.pair_title(pair))
                console.print(f"{spoken}: Pearson {found['pearson']:.2f}", highlight=False, soft_wrap=True)
        for warning in summary["warnings"]:
            console.print(f"[yellow]warning[/yellow]: {_shown(warning)}", highlight=False, soft_wrap=True)
    _print_claims(console, verdicts)
    _print_places(console, places)


def print_replicates(
    spread: Mapping[str, Mapping[str, Mapping[str, float]]],
    metrics: Mapping[str, Metric],
    warnings: Sequence[str],
    verdicts: Sequence[tuple[str, Verdict]],
    places: Mapping[str, Path | str],
) -> None:
    """What paths of several seeds have in common: rises above the highest end, claims, and where everything lies.

    Args:
        spread: Path and cost to the rise over replicates; see ``over_replicates``.
        metrics: Cost to its metric.
        warnings: Of the paths.
        verdicts: Path name and verdict.
        places: What, and where it lies.
    """
    console = Console()
    for name, found in spread.items():
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for index, column in enumerate(("above the highest end", "mean over seeds", "least", "most")):
            table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
        for row in document.replicate_rows(found, metrics):
            table.add_row(*row)
        seeds = next(iter(found.values()))["replicates"]
        console.print()
        console.print(_shown(f"{name}, {seeds} seeds"), style="bold", soft_wrap=True, highlight=False)
        console.print(table)
    for warning in warnings:
        console.print(f"[yellow]warning[/yellow]: {_shown(warning)}", highlight=False, soft_wrap=True)
    _print_claims(console, verdicts)
    _print_places(console, places)


def _print_claims(console: Console, verdicts: Sequence[tuple[str, Verdict]]) -> None:
    """What held, then what did not and why."""
    if verdicts:
        console.print()
    for word, text in told(verdicts):
        style = STYLES[word]
        console.print(f"[{style}]{word:<12}[/{style}]  {_shown(text)}", highlight=False, soft_wrap=True)


def _print_places(console: Console, places: Mapping[str, Path | str]) -> None:
    console.print()
    for what, place in places.items():
        console.print(_shown(f"{what:<8} {place}"), highlight=False, soft_wrap=True)


def print_merge(summary: Mapping[str, Any], places: Mapping[str, Path | str]) -> None:
    """The merged network beside the given ones, the warnings, and where the file lies."""
    console = Console()
    console.print()
    console.print(_shown(f"{summary['title']}: {summary['merge']}"), style="bold", highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("network", "passes", "test accuracy %", "gain"):
        table.add_column(column, justify="left" if column == "network" else "right", no_wrap=True)
    for row in summary["rows"]:
        cells = [f"{row['cost']:.0f}", SHARE.text(row["accuracy"]), SHARE.text(row["accuracy_gain"], "+")]
        table.add_row(_shown(row["label"]), *cells)
    console.print(table)
    for line in summary["warnings"]:
        console.print(_shown(f"warning: {line}"), style="yellow", highlight=False, soft_wrap=True)
    _print_places(console, places)


def print_repair(summary: Mapping[str, Any], places: Mapping[str, Path | str]) -> None:
    """What a repair did to accuracy and attack, its warnings and claims, and where everything lies."""
    console = Console()
    clean = summary["metrics"]["clean_accuracy"]
    names = cards.order([*summary["ends"], *(name for name in ("untampered", "scratch", "after") if name in clean)])
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(_shown(cards.spoken(name)), justify="right", no_wrap=True)
    for name, metric in cards.metrics_of(summary).items():
        values = summary["metrics"][name]
        table.add_row(_shown(metric.title()), *(cards.percent(values[network]) for network in names))
    console.print()
    console.print(_shown(summary["title"]), style="bold", soft_wrap=True, highlight=False)
    console.print(table)
    repair, said = summary["chosen"]["repair"], cards.candidate(summary["chosen"])
    by = "" if repair == summary["repair"] else f"{repair}, "
    again = " (made once more, on all clean images)" if summary["taken"]["how"] == "refitted" else ""
    console.print(f"chosen on held-out clean images: {_shown(by + said)}{again}", highlight=False, soft_wrap=True)
    if cards.told(summary):
        left = cards.percent(summary["taken"][ESTIMATE])
        console.print(f"estimated share of a hidden attack that is left: {left} %", highlight=False, soft_wrap=True)
    for warning in summary["warnings"]:
        console.print(f"[yellow]warning[/yellow]: {_shown(warning)}", highlight=False, soft_wrap=True)
    method = summary["repair"].replace("_", " ")
    _print_claims(console, [(method, Verdict(**claim)) for claim in summary["claims"]])
    _print_places(console, places)


def print_comparison(
    rows: Sequence[Mapping[str, Any]], verdicts: Sequence[tuple[str, Verdict]], places: Mapping[str, Path | str]
) -> None:
    """Repairs side by side, which claims held, and where everything lies."""
    console = Console()
    for setting in dict.fromkeys(row["setting"] for row in rows):
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for index, column in enumerate(("repair", "N", "replicates", "clean accuracy %", "attack success %")):
            table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
        for row in (row for row in rows if row["setting"] == setting):
            attack = next((name for name in ("attack_success", "injection_success") if f"{name}_after" in row), None)
            cells = [repairs.cell(row, f"{name}_after") for name in ("clean_accuracy", attack) if name]
            table.add_row(_shown(row["repair"]), str(row["images"]), str(row["replicates"]), *cells)
        console.print()
        console.print(_shown(setting), style="bold", soft_wrap=True, highlight=False)
        console.print(table)
    _print_claims(console, verdicts)
    _print_places(console, places)


def print_failed(count: int, report: Path) -> None:
    """That no job of a sweep finished, and where the reasons lie."""
    _print_places(Console(), {"failed": f"all {count} jobs", "reasons": report})


def print_best(found: Mapping[str, Any]) -> None:
    """What a sweeper that searches has found.

    Args:
        found: ``best_evaluated_params`` or ``best_params``, key to value, and the number that they gave.
    """
    console = Console()
    best = {name: value for name, value in found.items() if name.startswith("best_")}
    for name, value in best.items():
        told = ", ".join(f"{key}={one}" for key, one in value.items()) if isinstance(value, Mapping) else f"{value}"
        console.print(_shown(f"{name.replace('_', ' ')}: {told}"), highlight=False, soft_wrap=True)

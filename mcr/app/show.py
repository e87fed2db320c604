"""``mcr show``: every stage that a command needs, with its state; nothing is computed or written."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mcr.app.cost import NOT_MEASURED, Costs, kind
from mcr.app.overrides import Request
from mcr.app.titles import title
from mcr.plans import pipeline
from mcr.store.stage import Stage
from mcr.store.store import Store
from mcr.text import CELL, printable

STYLES = {"hit": "green", "miss": "yellow", "damaged": "red"}
UNKNOWN = "?"


def show_plans(request: Request, console: Console) -> None:
    """Print every stage of every job with its state; those that several jobs share, with the first of them."""
    above: dict[str, frozenset[str]] = {}  # key of a stage that was told to those of all that it needs
    for index, job in enumerate(request.jobs):
        store = Store(job.config["paths"]["store"])
        name = title(job.config)
        stages = pipeline.ordered(pipeline.plan(job.config, name)[job.config["verb"]])
        new = [stage for stage in stages if stage.key not in above]
        table = Table("stage", "key", "state", "needs", box=None, pad_edge=False)
        for stage in new:
            needs = list(stage.needs.values())
            # What a need needs itself is not told again.
            told = frozenset().union(*(above[need.key] for need in needs))
            above[stage.key] = told | {need.key for need in needs}
            state = store.state(stage)
            shown = f"[{STYLES[state]}]{state}[/{STYLES[state]}]"
            table.add_row(stage.label, stage.key, shown, ", ".join(n.label for n in needs if n.key not in told))
        heading = f"job {index}: {' '.join(job.overrides)}" if request.swept else name
        console.print(heading, style="italic", markup=False, highlight=False)
        if new:
            console.print(table)
        if len(new) < len(stages):
            console.print(f"{len(stages) - len(new)} of {len(stages)} stages are listed above", style="dim")
        if index + 1 < len(request.jobs):
            console.print()


def show_costs(request: Request, console: Console) -> None:
    """Print what every stage that is missing will take, and all of them, where one job follows the other."""
    jobs, known = [], set[str]()
    for job in request.jobs:
        store = Store(job.config["paths"]["store"])
        goals = pipeline.plan(job.config, title(job.config))[job.config["verb"]]
        new = [stage for stage in pipeline.missing(goals, store) if stage.key not in known]
        known |= {stage.key for stage in new}
        jobs.append(new)
    stages = [stage for new in jobs for stage in new]
    first = request.jobs[0].config
    costs = Costs.measured(stages, Store(first["paths"]["store"]), first["runtime"])
    for index, (job, new) in enumerate(zip(request.jobs, jobs, strict=True)):
        heading = f"job {index}: {' '.join(job.overrides)}" if request.swept else title(job.config)
        console.print(heading, style="italic", markup=False, highlight=False)
        if new:
            console.print(_table(new, costs))
    _total(stages, costs, console)


def _table(stages: list[Stage], costs: Costs) -> Table:
    table = Table("stage", "key", box=None, pad_edge=False)
    table.add_column("minutes", justify="right")
    table.add_column("memory, MB", justify="right")
    for stage in stages:
        price = costs.of(stage)
        told = (UNKNOWN, UNKNOWN) if price is None else (f"{price.seconds / 60:.2f}", f"{price.bytes / 1e6:.0f}")
        table.add_row(escape(stage.label), stage.key, *told)
    return table


def _total(stages: list[Stage], costs: Costs, console: Console) -> None:
    prices = [price for stage in stages if (price := costs.of(stage)) is not None]
    minutes = sum(price.seconds for price in prices) / 60
    most = max((price.bytes for price in prices), default=0) / 1e6
    count = f"{len(stages)} stage{'s are' if len(stages) != 1 else ' is'} missing"
    told = f"{count}: {minutes:.1f} minutes, one after the other, and {most:.0f} MB" if stages else "nothing is missing"
    console.print(told, highlight=False)
    unread = sorted({stage.name for stage in stages if stage.name in NOT_MEASURED})
    if unread:
        console.print(f"not measured: {', '.join(unread)}", style="dim", highlight=False)
    for name, reason in costs.unknown.items():
        label = next(stage.label for stage in stages if kind(stage) == name)
        console.print(
            printable(f"not measured: {label}, with networks that nobody has trained: {reason}", CELL),
            style="dim",
            markup=False,
            highlight=False,
        )

"""``mcr show``: every stage that a command needs, with its state; nothing is computed or written."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from mcr.app.overrides import Request
from mcr.app.run import title
from mcr.plans import pipeline
from mcr.store.store import Store

STYLES = {"hit": "green", "miss": "yellow", "damaged": "red"}


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

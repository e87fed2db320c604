"""Progress of long work: a bar on a terminal, a line at its beginning and end elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar:
    """One piece of work of known length; ``advance`` after each step, with a note such as the current loss."""

    def __init__(self, label: str, total: int, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.console = Console(stderr=True)
        self.begin = time.perf_counter()
        self.note = ""
        self.progress = Progress(
            TextColumn("  {task.description:<22}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.progress.start()
        self.task = self.progress.add_task(label, total=total, note="")

    def reach(self, done: int, note: str = "") -> None:
        """Show that so many steps are done."""
        self.note = note
        self.progress.update(self.task, completed=done, note=note)

    def close(self) -> None:
        self.progress.stop()
        seconds = time.perf_counter() - self.begin
        self.console.print(
            f"  {self.label:<22} {self.total} {self.unit} in {seconds:.1f} s  {self.note}",
            highlight=False,
            soft_wrap=True,
        )


@contextmanager
def bar(label: str, total: int, unit: str) -> Iterator[Bar]:
    """A Bar that closes itself; where the work fails, only the bar goes."""
    shown = Bar(label, total, unit)
    try:
        yield shown
    except BaseException:
        shown.progress.stop()
        raise
    shown.close()

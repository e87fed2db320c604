"""Progress of long work: a bar on a terminal, elsewhere a line now and then and one at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 30  # where there is no terminal, such as a cluster's log file


class Bar:
    """One piece of work of known length; ``reach`` after each step, with a note such as the current loss."""

    def __init__(self, label: str, total: int, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.console = Console(stderr=True)
        self.begin = self.told = time.perf_counter()
        self.note = ""
        self.progress = Progress(
            TextColumn("  {task.description:<22}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
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
        now = time.perf_counter()
        if not self.console.is_terminal and now - self.told > SECONDS_BETWEEN_LINES:
            self.told = now
            self._tell(f"{done} of {self.total} {self.unit} after {now - self.begin:.0f} s")

    def close(self) -> None:
        self.progress.stop()
        self._tell(f"{self.total} {self.unit} in {time.perf_counter() - self.begin:.1f} s")

    def _tell(self, text: str) -> None:
        line = f"  {self.label:<22} {text}  {self.note}"
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


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

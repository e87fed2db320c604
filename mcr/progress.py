"""Progress of long work: a bar on a terminal, elsewhere a line now and then and one at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

SECONDS_BETWEEN_LINES = 30  # where there is no terminal, such as a cluster's log file
LABEL = 22  # characters that a label takes at least
LONGEST = 34  # and at most in a bar: with bar, counts and time it fits into eighty columns
INDENT = "  "
_BEGIN = ContextVar("begin", default=INDENT)
_LISTENER = ContextVar[Callable[[int], None] | None]("listener", default=None)


@contextmanager
def of_job(number: int) -> Iterator[None]:
    """Within it lines begin with a job's number, and no bar is drawn: other jobs write to the same terminal meanwhile.

    Args:
        number: Of the job in its sweep.
    """
    before = _BEGIN.set(f"{number}: ")
    try:
        yield
    finally:
        _BEGIN.reset(before)


@contextmanager
def heard(listener: Callable[[int], None]) -> Iterator[None]:
    """Within it work says to a listener how much is done, at first 0, and nothing to the console."""
    before = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(before)


class Bar:
    """One piece of work of known length; ``reach`` after each step, with a note such as the current loss."""

    def __init__(self, label: str, total: int, unit: str) -> None:
        self.begins = _BEGIN.get()
        self.label, self.total, self.unit = label, total, unit
        self.listener = _LISTENER.get()
        self.console = Console(stderr=True, quiet=self.listener is not None)
        self.drawn = self.console.is_terminal and self.begins == INDENT and self.listener is None
        self.begin = self.told = time.perf_counter()
        self.note = ""
        self.progress = Progress(
            TextColumn(
                f"{INDENT}{{task.description:<{LABEL}}}",
                table_column=Column(no_wrap=True, overflow="ellipsis", max_width=LONGEST),
                markup=False,
            ),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            # It takes what the others leave.
            TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            console=self.console,
            transient=True,
            expand=True,
            disable=not self.drawn,
        )
        self.progress.start()
        self.task = self.progress.add_task(label, total=total, note="")
        if self.listener is not None:
            self.listener(0)

    def reach(self, done: int, note: str = "") -> None:
        """Show that so many steps are done."""
        self.note = note
        if self.listener is not None:
            self.listener(done)
        self.progress.update(self.task, completed=done, note=note)
        now = time.perf_counter()
        if not self.drawn and now - self.told > SECONDS_BETWEEN_LINES:
            self.told = now
            self._tell(f"{done} of {self.total} {self.unit} after {now - self.begin:.0f} s")

    def close(self) -> None:
        self.progress.stop()
        self._tell(f"{self.total} {self.unit} in {time.perf_counter() - self.begin:.1f} s")

    def _tell(self, text: str) -> None:
        line = f"{self.begins}{self.label:<{LABEL}} {text}  {self.note}"
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

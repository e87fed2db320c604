"""What a terminal shows of long work."""

from __future__ import annotations

import csv
import io
import itertools
import re

import pytest
from rich.console import Console

from mcr import progress

WIDTH = 80
CODES = re.compile(r"\x1b\[[0-9?]*[A-Za-z]")
WATCHED = ("validation/accuracy", "validation/robust_accuracy")
NOTE = "loss 0.123  accuracy 0.456  robust_accuracy 0.789"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written to a terminal of eighty columns, whose clock goes on by ten seconds when it is asked."""
    written, ticks = io.StringIO(), itertools.count(step=10)

    def console(stderr: bool, quiet: bool) -> Console:
        return Console(
            file=written,
            quiet=quiet,
            width=WIDTH,
            force_terminal=True,
            color_system=None,
            get_time=lambda: float(next(ticks)),
        )

    monkeypatch.setattr(progress, "Console", console)
    return written


def lines(terminal: io.StringIO) -> list[str]:
    return re.split(r"[\r\n]+", CODES.sub("", terminal.getvalue()))


@pytest.mark.parametrize("label", ["train end", "measure stronger_attacks straight with a long name"])
def test_a_bar_keeps_count_and_time_in_eighty_columns_and_the_note_yields(label, terminal) -> None:
    shown = progress.Bar(label, 10000, "epochs")
    for done in (2300, 2400, 2500):
        shown.reach(done, NOTE)
    shown.progress.refresh()
    drawn = [line for line in lines(terminal) if "2500/10000" in line][-1]
    shown.close()
    assert len(drawn) <= WIDTH
    assert re.search(r"━+ +2500/10000 epochs [\d:]*\d:\d\d lo", drawn), drawn
    assert NOTE not in drawn
    assert drawn.startswith(f"  {label[:20]}")


def test_a_training_shows_the_values_of_the_epoch_that_it_shows(make, terminal, monkeypatch) -> None:
    told = []
    reach = progress.Bar.reach

    def kept(bar: progress.Bar, done: int, note: str = "") -> None:
        told.append((bar.label, done, note))
        reach(bar, done, note)

    monkeypatch.setattr(progress.Bar, "reach", kept)
    made = make("training.epochs=2", "endpoint@endpoints.end=adversarial", goal="train")
    for label in ("train start", "train end"):
        text = (made[label][0] / "history.csv").read_text(encoding="utf-8")
        rows = list(csv.DictReader(text.splitlines()))
        names = [
            name for name in ("train/loss", "validation/accuracy", "validation/robust_accuracy") if name in rows[0]
        ]
        wanted = ["  ".join(f"{name.split('/')[1]} {float(row[name]):.3f}" for name in names) for row in rows]
        assert [note for who, done, note in told if who == label and done] == wanted
        assert wanted[0] != wanted[1]
        # The line that stays has those of the last one.
        assert any(line.startswith(f"  {label} ") and line.endswith(f"  {wanted[1]}") for line in lines(terminal))


def test_lines_of_a_job_begin_with_its_number_and_no_bar_is_drawn(terminal) -> None:
    with progress.of_job(3), progress.bar("train end", 2, "epochs") as shown:
        shown.reach(1, "loss 0.5")
        shown.reach(2, "loss 0.4")
    told = [line for line in lines(terminal) if line]
    assert len(told) == 1
    assert re.fullmatch(r"3: train end +2 epochs in \d+\.\d s  loss 0.4", told[0])
    with progress.bar("split", 1, "parts"):
        pass
    assert lines(terminal)[-2].startswith("  split ")


def test_who_listens_is_told_and_nothing_is_written(terminal) -> None:
    told: list[int] = []
    with progress.heard(told.append), progress.bar("train end", 2, "epochs") as shown:
        shown.reach(1, "loss 0.5")
        shown.reach(2)
    assert told == [0, 1, 2]
    assert terminal.getvalue() == ""

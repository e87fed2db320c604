"""The campaigns of ``make torture`` can fail: what they try is dangerous, and what they look for is told."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from torture import __main__ as torture
from torture import configuration, crafted, hostile_files, killed, kills, outcome, store_faults, sweeps, tiny
from torture.tally import Tally

ONE_LINE = "mcr: attack.eps=2 is out of range\n"


def ended(status: int, err: str, out: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess(["mcr"], status, out, err)


@pytest.mark.parametrize(
    ("done", "found"),
    [
        (ended(0, "whatever it logs\n"), ""),
        (ended(2, ONE_LINE), ""),
        (ended(1, ONE_LINE), ""),
        (ended(0, "", "Traceback (most recent call last):"), "traceback"),
        (ended(1, "Traceback (most recent call last):\nKeyError: 3\n"), "KeyError: 3"),
        (ended(2, ONE_LINE + "and more\n"), "2 lines"),
        (ended(2, ""), "0 lines"),
        (ended(2, "error: something else\n"), "begins with mcr"),
        (ended(2, "mcr: \x1b[2J\n"), "control characters"),
        (ended(2, "mcr: " + "x" * 1000 + "\n"), "1005 characters"),
        (ended(-9, ""), "status -9"),
    ],
)
def test_the_end_of_a_command_is_judged(done: subprocess.CompletedProcess[str], found: str) -> None:
    fault = outcome.fault(done)
    assert found in fault
    assert bool(fault) == bool(found)


@pytest.mark.slow
def test_pickles_that_call_something_do_so_where_they_are_trusted(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    hostile_files.bait(tmp_path, witness)
    harmless = []
    for name in crafted.CALLS:
        child = os.fork()
        if not child:
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            sys.path.insert(0, str(tmp_path))
            try:
                pickle.loads(crafted.pickled_call(name, "global", witness))
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        if not witness.exists():
            harmless.append(name)
        elif witness.is_dir():
            witness.rmdir()
        else:
            witness.unlink()
    assert harmless == []


@pytest.mark.slow
def test_a_command_kills_itself_at_a_write_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    expected, writes, _ = kills.undisturbed(tmp_path / "whole")
    assert writes > 20
    case = tmp_path / "killed"
    assert kills.killed_at(case, writes // 2, "within") == kills.KILLED
    assert tiny.difference(expected, tiny.published(case / "multirun"))
    assert kills.repeated(case, expected) == ""
    assert killed.MOMENTS == ("before", "within", "after")


def test_a_process_that_is_left_over_is_found(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sweeps, "PATIENCE", 0.2)
    assert sweeps._orphans(tmp_path) == ""
    left = subprocess.Popen(["sleep", "60"], env={**os.environ, "MCR_ROOT": str(tmp_path / "multirun")})
    try:
        time.sleep(0.1)
        assert sweeps._orphans(tmp_path) == "1 processes left over"
    finally:
        left.kill()
        left.wait()


def test_the_end_of_a_report_says_when_it_was_made_and_is_not_compared(tmp_path: Path) -> None:
    for number, date in enumerate(("2026-01-01", "2027-02-02")):
        run = tmp_path / str(number) / "runs" / "one"
        run.mkdir(parents=True)
        (run / "report.md").write_text(f"# A report\n\n## How this was made\n\n- Date: {date}\n")
        (run / "summary.json").write_text(json.dumps({"a": number // 2, "made": {"date": date}}))
    one, two = (tiny.published(tmp_path / number) for number in "01")
    assert one == two
    (tmp_path / "1" / "runs" / "one" / "report.md").write_text("# Another\n\n## How this was made\n")
    assert tiny.difference(one, tiny.published(tmp_path / "1")) == "1 other bytes in: run/report.md"


def test_a_difference_is_told() -> None:
    expected = {"a": b"1", "b": b"2", "c": b"3"}
    assert tiny.difference(expected, dict(expected)) == ""
    assert tiny.difference(expected, {"a": b"1", "b": b"0", "d": b"4"}) == (
        "1 missing: c; 1 left over: d; 1 other bytes in: b"
    )


@pytest.mark.parametrize("damage", store_faults.FAULTS, ids=lambda damage: damage.__name__)
def test_a_damage_changes_its_file(damage, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 9)
    damage(path)
    assert not path.is_file() or path.read_bytes() != b"0123456789" * 9


@pytest.mark.slow
@pytest.mark.parametrize(("campaign", "seconds"), [(hostile_files, 4), (store_faults, 5), (configuration, 4)])
def test_a_campaign_finds_nothing_in_some_seconds(campaign, seconds: float) -> None:
    tally = campaign.campaign(seconds, seed=0)
    assert tally.faults == []
    assert tally.right.total() > 0


def test_counts_and_faults_are_told_and_decide_the_status(monkeypatch, capsys) -> None:
    def campaign(faulty: bool, seconds: float, seed: int) -> Tally:
        tally = Tally("some")
        tally.add("one", "refused in one line")
        tally.add("other", "", "traceback" if faulty else "")
        return tally

    for name, module in (("kills", kills), ("hostile_files", hostile_files)):
        monkeypatch.setattr(module, "campaign", partial(campaign, name == "kills"))
    assert torture.main(["hostile_files"]) == 0
    assert torture.main(["kills", "hostile_files", "--minutes", "1"]) == 1
    said = capsys.readouterr().out
    assert "some: 2 tried, 1 faults (1 refused in one line)\n  fault  other: traceback\n" in said

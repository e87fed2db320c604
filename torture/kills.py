"""SIGKILL at writes and at random moments; the same command again has to end in the same bytes, nothing left over."""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
import time
from functools import partial
from pathlib import Path

from tests import processes
from torture import killed, outcome, tiny
from torture.tally import Tally, within

KILLED = -signal.SIGKILL


def campaign(seconds: float, seed: int) -> Tally:
    """Kill one command a time, each in a store of its own, until the time is over."""
    tally = Tally("kills")
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        desk = Path(scratch)
        expected, writes, length = undisturbed(desk / "whole")
        numbers = list(range(1, writes + 1))
        draw.shuffle(numbers)
        for number in within(seconds, numbers):
            moment = draw.choice(killed.MOMENTS)
            case = desk / "killed"
            if draw.random() < 0.25:
                after = draw.uniform(0, length)
                name = f"killed after {after:.2f} s"
                ended = _killed_after(case, after)
            else:
                name = f"killed {moment} write {number} of {writes}"
                ended = killed_at(case, number, moment)
            if ended == KILLED:
                tally.add(name, "same bytes", repeated(case, expected))
            else:
                tally.add(name, "over before it was killed", f"it ended with {ended}" if ended else "")
            shutil.rmtree(case)
    return tally


def undisturbed(case: Path) -> tuple[dict[str, bytes | str], int, float]:
    """What the command publishes, how often it writes, and how many seconds it takes."""
    counted = case.with_name("writes")
    begin = time.monotonic()
    _, fault = outcome.command(*tiny.REPORT, before=partial(killed.at, 0, "", str(counted)), **_desk(case))
    if fault:
        raise RuntimeError(f"the command fails undisturbed: {fault}")
    return tiny.published(case / "multirun"), int(counted.read_bytes()), time.monotonic() - begin


def _desk(case: Path) -> dict[str, str | Path]:
    """A folder to work in and one for temporary files, on another file system where there is one."""
    (case / "tmp").mkdir(parents=True, exist_ok=True)
    return {"folder": case, "TMPDIR": str(case / "tmp")}


def killed_at(case: Path, number: int, moment: str) -> int:
    before = partial(killed.at, number, moment, str(case.with_name("writes")))
    return processes.mcr(*tiny.REPORT, before=before, **_desk(case)).returncode


def _killed_after(case: Path, seconds: float) -> int:
    desk = _desk(case)
    out, err = case.with_name("stdout"), case.with_name("stderr")
    env = processes.environment(TMPDIR=str(desk["TMPDIR"]))
    process = processes.start(list(tiny.REPORT), case, out, err, env)
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode or 0


def repeated(case: Path, expected: dict[str, bytes | str]) -> str:
    """What is wrong after the command was given again; "" for nothing."""
    _, fault = outcome.command(*tiny.REPORT, **_desk(case))
    left = [path.name for path in (case / "tmp").iterdir()]
    rest = f"left in TMPDIR: {', '.join(left[:3])}" if left else ""
    return fault or tiny.difference(expected, tiny.published(case / "multirun")) or rest

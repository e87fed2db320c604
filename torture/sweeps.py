"""A parallel sweep whose processes are all killed, twice, or one of whose workers is: the same tables in the end."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from tests import processes
from tests.conftest import TINY
from torture import outcome, tiny
from torture.tally import Tally, within

FACTORS = ("curve=linear,polychain,bezier", "attack.eps=2/255,8/255", "replicate=0,1,2,3")
JOBS = 24
DIGITS = tuple(word for word in TINY if not word.startswith("dataset"))
SWEEP = ("-m", "report", "dataset=digits", *DIGITS, *FACTORS, "logger=none")
PARALLEL = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
WORKER = "loky"  # in the command line of a worker
PATIENCE = 10.0  # seconds in which what was killed has to be gone


def campaign(seconds: float, seed: int) -> Tally:
    """Kill one parallel sweep a time, each in a store of its own, until the time is over."""
    tally = Tally("sweeps")
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        desk = Path(scratch)
        begin = time.monotonic()
        done = _ended(desk / "whole", ())
        if outcome.fault(done):
            raise RuntimeError(f"the sweep fails undisturbed: {outcome.fault(done)}")
        length, expected = time.monotonic() - begin, found(desk / "whole")
        # A case takes about three times as long as the sweep; one is tried however short the time is.
        for number in within(max(1.0, seconds - 4 * length), count()):
            case = desk / "killed"
            if number % 3 == 2:
                name, fault = "a worker killed", _worker_killed(case, draw.uniform(0.2, 0.8) * length)
            else:
                moments = [draw.uniform(0.1, 0.6) * length for _ in range(2)]
                name = f"killed after {moments[0]:.1f} s and after {moments[1]:.1f} s"
                fault = "".join(_killed(case, moment) for moment in moments)
            done = _ended(case, PARALLEL)
            fault = fault or outcome.fault(done) or tiny.difference(expected, found(case)) or _orphans(case)
            tally.add(name, "same tables", fault)
            shutil.rmtree(case)
    return tally


def found(case: Path) -> dict[str, bytes | str]:
    """The store, and the tables of the last sweep and of its jobs."""
    tables = tiny.published(case / "multirun")
    sweep = max((case / "multirun" / "sweeps").iterdir())
    return tables | {path.relative_to(sweep).as_posix(): path.read_bytes() for path in sorted(sweep.rglob("*.csv"))}


def _start(case: Path, more: tuple[str, ...]) -> subprocess.Popen[str]:
    """The sweep in a process group of its own."""
    case.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mcr", *SWEEP, *more]
    env = processes.environment(MCR_ROOT=str(case / "multirun"), OMP_NUM_THREADS="1")
    files = (case.with_name(f"{case.name}.{kind}").open("w", encoding="utf-8") for kind in ("stdout", "stderr"))
    with ExitStack() as stack:
        out, err = map(stack.enter_context, files)
        return subprocess.Popen(command, cwd=case, env=env, stdout=out, stderr=err, text=True, start_new_session=True)


def _ended(case: Path, more: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    process = _start(case, more)
    process.wait()
    out, err = (case.with_name(f"{case.name}.{kind}").read_text(encoding="utf-8") for kind in ("stdout", "stderr"))
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _killed(case: Path, seconds: float) -> str:
    """Kill the whole sweep after some time; what is wrong then."""
    process = _start(case, PARALLEL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return _orphans(case)


def _worker_killed(case: Path, seconds: float) -> str:
    """Kill one worker after some time; the command itself has to end, with all jobs but at most that one."""
    process = _start(case, PARALLEL)
    time.sleep(seconds)
    workers = [pid for pid in _processes(case) if WORKER in _read(pid, "cmdline")]
    if workers:
        os.kill(workers[0], signal.SIGKILL)
    process.wait()
    sweep = max((case / "multirun" / "sweeps").iterdir())
    missing = [job for job in map(str, range(JOBS)) if not (sweep / job / "summary.json").is_file()]
    if len(missing) > 1 or not (sweep / "report.md").is_file():
        return f"{len(missing)} jobs are missing after one worker was killed"
    return (
        "" if process.returncode == bool(missing) else f"exit status {process.returncode} with {len(missing)} missing"
    )


def _orphans(case: Path) -> str:
    end = time.monotonic() + PATIENCE
    while _processes(case) and time.monotonic() < end:
        time.sleep(0.1)
    left = _processes(case)
    return f"{len(left)} processes left over" if left else ""


def _processes(case: Path) -> list[int]:
    """The processes that work in a case's store."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if str(case) in _read(int(path.name), "environ")]


def _read(pid: int, what: str) -> str:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes().decode(errors="replace")
    except OSError:  # it has ended meanwhile
        return ""

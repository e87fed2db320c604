"""How the jobs of a sweep are started: their share of the machine, and what is done where a process is lost."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.plugins.sweeper import Sweeper

from mcr.progress import of_job
from mcr.text import CELL, printable

Start = Callable[[Sequence[str]], None]
SKIPPED = "MCR_SKIPPED"  # jobs that are not to be run now, by number
# Launchers whose jobs share this machine: how many run at once.
LOCAL: dict[str, Callable[[Mapping[str, Any], int, int], int]] = {
    "JoblibLauncher": lambda own, jobs, cores: min(jobs, _workers(own["n_jobs"], cores)),
    "LocalLauncher": lambda own, jobs, cores: jobs,
    "RayLauncher": lambda own, jobs, cores: _tasks(own["ray"]["init"] or {}, jobs, cores),
}


def _workers(asked: int | None, cores: int) -> int:
    """joblib's reading of its number of jobs: -1 is all cores, -2 all but one."""
    return 1 if asked is None else asked if asked > 0 else max(1, cores + 1 + asked)


def _tasks(init: Mapping[str, Any], jobs: int, cores: int) -> int:
    """How many jobs a Ray cluster that is started here runs at once: one a core that it is given."""
    return 1 if init.get("address") else min(jobs, init.get("num_cpus") or cores)


def at_once(launcher: Mapping[str, Any], jobs: int) -> int:
    """How many jobs of a sweep run on this machine at the same time.

    Args:
        launcher: Hydra's launcher group.
        jobs: How many there are.
    """
    kind = str(launcher["_target_"]).rsplit(".", 1)[-1]
    return LOCAL[kind](launcher, jobs, cores()) if kind in LOCAL else 1


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(launcher: Mapping[str, Any], jobs: int) -> int:
    """CPU threads of each job where several share this machine; 0 where one has it for itself."""
    together = at_once(launcher, jobs)
    return max(1, cores() // together) if together > 1 else 0


def device(runtime: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    """The runtime of a job on the accelerator whose turn it is: job i of a sweep has GPU i, and so on from the first.

    Args:
        runtime: Its group; devices that it names by their numbers stay.
        number: Of the job.
    """
    if runtime["accelerator"] == "cpu" or runtime["devices"] != 1:
        return runtime
    import torch

    count = torch.cuda.device_count()  # a cluster that gives a job its own shows no other
    return {**runtime, "devices": [number % count]} if count > 1 else runtime


def skipped(number: int) -> bool:
    """Whether a job is not to be run now."""
    return str(number) in os.environ.get(SKIPPED, "").split(",")


def launch(start: Start, unfinished: Callable[[], tuple[set[int], set[int]]], jobs: int) -> None:
    """Run the jobs of a sweep; one whose process is lost costs nobody else.

    A launcher that loses a process gives up the others as well. Jobs that were running then are put aside, the rest is
    run, and at last each of those by itself.

    Args:
        start: Starts Hydra with some more overrides.
        unfinished: The numbers of the jobs that began without an end, and of those that never began.
        jobs: How many there are.
    """
    with _composed():
        _launch(start, unfinished, jobs)


def _launch(start: Start, unfinished: Callable[[], tuple[set[int], set[int]]], jobs: int) -> None:
    if _ended_well(start, []):
        return
    suspects: set[int] = set()
    while True:
        begun, waiting = unfinished()
        if not begun - suspects:
            break  # a launcher that fails for another reason than a job
        suspects |= begun
        if not waiting or _ended_well(start, _without(set(range(jobs)) - waiting)):
            break
    for number in sorted(suspects):
        _ended_well(start, _without(set(range(jobs)) - {number}))


@contextmanager
def _composed() -> Iterator[None]:
    """Within it Hydra does not compose every job just to see whether it can: the plan has, and a launcher will."""
    before = Sweeper.validate_batch_is_legal
    Sweeper.validate_batch_is_legal = lambda *_: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Sweeper.validate_batch_is_legal = before  # type: ignore[method-assign]


def search(start: Start) -> None:
    """Run a sweeper that searches, once: begun again it would draw other jobs.

    Args:
        start: Starts Hydra.
    """
    _ended_well(start, [])


def _without(numbers: set[int]) -> list[str]:
    """The override that tells jobs not to run."""
    return [f"+hydra.job.env_set.{SKIPPED}='{','.join(map(str, sorted(numbers)))}'"]


def _ended_well(start: Start, more: Sequence[str]) -> bool:
    try:
        start(more)
    except Exception as error:
        # Jobs never raise: it is the launcher.
        said = next(iter(str(error).splitlines()), "")
        print(f"mcr: the launcher ended with {type(error).__name__}: {printable(said, CELL)}", file=sys.stderr)
        return False
    return True


@contextmanager
def told_apart(number: int) -> Iterator[None]:
    """Within it all lines on the console begin with a job's number; its log file is its own, and needs none."""
    consoles = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
    ]
    before = [handler.formatter for handler in consoles]
    for handler in consoles:
        handler.setFormatter(logging.Formatter(f"{number}: %(message)s"))
    try:
        with of_job(number):
            yield
    finally:
        for handler, formatter in zip(consoles, before, strict=True):
            handler.setFormatter(formatter)

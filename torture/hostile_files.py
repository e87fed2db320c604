"""Model files that nobody should trust: none of their code runs, none hangs or takes the memory, each gets one line."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import torch

import mcr
from mcr.errors import InputError
from torture import crafted, outcome
from torture.tally import Tally, within

SECONDS = 20  # for one file
MEGABYTES = 1000  # of memory that reading one small file may take
Case = tuple[str, bytes | Path]


def campaign(seconds: float, seed: int) -> Tally:
    """Every kind of file once, and of the pickles that call something as many as the time allows."""
    tally = Tally("hostile files")
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        desk = Path(scratch)
        witness = desk / "witness"
        bait(desk, witness)
        state = _network().state_dict()
        few: list[Case] = [*crafted.headers(), *crafted.greedy(), *crafted.odd(state), *_special(desk)]
        calls = list(crafted.calls(witness))
        draw.shuffle(calls)
        reader = _Reader(desk)
        for name, content in within(seconds, [*few, *crafted.damaged(state, draw), *calls]):
            path = content if isinstance(content, Path) else desk / "model.pt"
            if isinstance(content, bytes):
                path.write_bytes(content)
            ended, fault = reader.read(path)
            if witness.exists():
                witness.unlink()
                fault = "its code was run"
            tally.add(name, ended, fault)
        reader.stop()
    return tally


def _network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))


def bait(desk: Path, witness: Path) -> None:
    """What a pickle may try to have loaded or run: modules and files that leave the witness behind."""
    leave = f"open({str(witness)!r}, 'w').close()\n"
    (desk / "witness_module.py").write_text(leave, encoding="utf-8")
    witness.with_suffix(".py").write_text(leave, encoding="utf-8")
    witness.with_suffix(".pickle").write_bytes(crafted.pickled_call("os system", "global", witness))


def _special(desk: Path) -> Iterator[Case]:
    """What is no plain file."""
    fifo, loop, broken = desk / "fifo.pt", desk / "loop.pt", desk / "broken.pt"
    os.mkfifo(fifo)
    loop.symlink_to(loop)
    broken.symlink_to(desk / "nowhere")
    (desk / "to_zero.pt").symlink_to("/dev/zero")
    devices = [Path(name) for name in ("/dev/zero", "/dev/tty", "/proc/kmsg")]
    for path in (fifo, loop, broken, desk / "to_zero.pt", desk, *devices):
        yield f"special {path.name}", path


class _Reader:
    """Reads one file a time in a process of its own, which is replaced where it does not answer."""

    def __init__(self, desk: Path) -> None:
        self.desk = desk
        self._start()

    def read(self, path: Path) -> tuple[str, str]:
        """How it ended, and what is wrong with that."""
        self.pipe.send(str(path))
        if not self.pipe.poll(SECONDS):
            self._replace()
            return "", f"no end within {SECONDS} s"
        try:
            found: tuple[str, str] = self.pipe.recv()
        except EOFError:
            self._replace()
            return "", "it took the whole process with it"
        if found[1]:
            self._replace()  # the most memory that a process ever had is known, not that of one file
        return found

    def stop(self) -> None:
        self.process.kill()
        self.process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_reads, args=(other, str(self.desk)), daemon=False)
        self.process.start()
        other.close()

    def _replace(self) -> None:
        self.stop()
        self._start()


def _reads(pipe: Connection, desk: str) -> None:
    os.chdir(desk)
    before = _most_megabytes()
    with suppress(EOFError):
        while True:
            pipe.send(_read(Path(pipe.recv()), before))


def _most_megabytes() -> float:
    """The most memory that this process, or one that it started, ever had: at first that of the process it is from."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024


def _read(path: Path, before: float) -> tuple[str, str]:
    try:
        mcr.load(path, _network())
        ended, fault = "loaded", ""
    except InputError as error:
        ended, fault = "refused in one line", outcome.unreadable(f"mcr: {error}")
    except Exception as error:
        ended, fault = "", f"{type(error).__name__}: {str(error)[:200]!a}"
    took = _most_megabytes() - before
    return ended, fault or (f"{took:.0f} MB of memory" if took > MEGABYTES else "")

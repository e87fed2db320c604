"""Files of the store damaged, cut, emptied or gone: the same command again ends in the bytes of before."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from torture import outcome, tiny
from torture.tally import Tally, within


def flipped(path: Path) -> None:
    """One bit of the last eighth: of a file of weights a number, not its header."""
    content = bytearray(path.read_bytes())
    content[len(content) - 1 - len(content) // 16] ^= 4
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def gone(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


GOAL = "report"
FAULTS: tuple[Callable[[Path], None], ...] = (flipped, cut, emptied, longer, gone, a_folder)


def campaign(seconds: float, seed: int) -> Tally:
    """One fault a time in a copy of one store: with what was made of the file, and without it."""
    tally = Tally("store faults")
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        desk = Path(scratch)
        whole = desk / "whole"
        whole.mkdir()
        _, fault = outcome.command(*tiny.REPORT, folder=whole)
        if fault:
            raise RuntimeError(f"the command fails undisturbed: {fault}")
        expected = tiny.published(whole / "multirun")
        store = whole / "multirun" / "store"
        files = [path.relative_to(store) for path in sorted(store.rglob("*")) if path.is_file() and path.stat().st_size]
        cases = [(file, damage, later) for file in files for damage in FAULTS for later in ("kept", "removed")]
        draw.shuffle(cases)
        for file, damage, later in within(seconds, cases):
            case = desk / "case"
            shutil.copytree(whole, case, symlinks=True)
            shutil.rmtree(case / "multirun" / "runs")
            copy = case / "multirun" / "store"
            if later == "removed":
                for folder in _dependents(copy, file):
                    shutil.rmtree(folder)
            damage(copy / file)
            name = f"{file.parent.parent}/{file.name} {damage.__name__.replace('_', ' ')}, later stages {later}"
            ended, fault = outcome.command(*tiny.REPORT, folder=case)
            found = tiny.published(case / "multirun")
            # What only a hit needs is not looked at: it may stay as it is, but nothing else may change.
            place = f"store/{file.as_posix()}"
            at_rest = {place: expected[place]} if later == "kept" and file.parts[0] != GOAL else {}
            fault = fault or (ended if ended != "done" else tiny.difference(expected, found | at_rest))
            tally.add(name, "same bytes", fault)
            shutil.rmtree(case)
    return tally


def _dependents(store: Path, file: Path) -> list[Path]:
    """Folders of all stages that were made from the one that a file belongs to."""
    records = {path.parent: json.loads(path.read_text(encoding="utf-8")) for path in store.glob(f"*/*/{tiny.RECORD}")}
    reached = {store / file.parent}
    while True:
        more = {
            folder
            for folder, record in records.items()
            if any(store / need["stage"] / need["key"] in reached for need in record["needs"].values())
        }
        if more <= reached:
            return sorted(reached - {store / file.parent})
        reached |= more

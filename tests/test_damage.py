"""What lies in the store is what was written, or is made anew; nobody computes with anything else."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mcr
from mcr.app import cli
from mcr.errors import InputError
from mcr.plans import pipeline
from mcr.stages.context import Context
from mcr.store import disk, manifest
from mcr.store.stage import Stage
from mcr.store.store import Store
from tests.conftest import TINY

RUNTIME = {"accelerator": "cpu", "devices": 1, "strategy": "auto", "threads": 0}
SOURCE = Stage("chained", 1, {"name": "source"}, label="source")
MIDDLE = Stage("chained", 1, {"name": "middle"}, {"init": SOURCE}, "middle")
LAST = Stage("chained", 1, {"name": "last"}, {"init": MIDDLE}, "last", beyond=(SOURCE,))
CHAIN = (SOURCE, MIDDLE, LAST)


@pytest.fixture(autouse=True)
def computed(monkeypatch) -> list[str]:
    """The stages that are computed: each writes what follows from the files that it reads."""
    found: list[str] = []

    def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
        found.append(stage.label)
        read = [inputs["init"] / "weights"] if inputs else []
        read += [inputs["init"].parent / other.key / "weights" for other in stage.beyond]
        digest = hashlib.sha256(stage.label.encode() + b"".join(path.read_bytes() for path in read)).digest()
        (folder / "weights").write_bytes(digest)
        (folder / "deep").mkdir()
        (folder / "deep" / "table.csv").write_text(digest.hex())

    monkeypatch.setitem(sys.modules, "mcr.stages.chained", types.SimpleNamespace(compute=compute))
    return found


def go(store: Store, *goals: Stage) -> dict[str, str]:
    context = Context(RUNTIME, {"kind": "none"}, "", Path())
    return {stage.label: state for stage, _, state in pipeline.make(list(goals or (LAST,)), store, context)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store")
    go(made)
    return made


def content(store: Store) -> dict[str, bytes]:
    """Of all published files but the records, which hold seconds."""
    return {
        path.relative_to(store.root).as_posix(): path.read_bytes()
        for path in store.root.glob("chained/[!.]*/**/*")
        if path.is_file() and path.name != "stage.json"
    }


def flip(path: Path) -> None:
    found = bytearray(path.read_bytes())
    found[len(found) // 2] ^= 1
    path.write_bytes(found)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# Seen by looking at sizes and names alone.
LIGHT: dict[str, Callable[[Path], Any]] = {
    "cut": lambda folder: (folder / "weights").write_bytes((folder / "weights").read_bytes()[:9]),
    "emptied": lambda folder: (folder / "weights").write_bytes(b""),
    "deleted": lambda folder: (folder / "weights").unlink(),
    "deleted deep inside": lambda folder: (folder / "deep" / "table.csv").unlink(),
    "a folder in the place of a file": lambda folder: ((folder / "weights").unlink(), (folder / "weights").mkdir()),
    "record deleted": lambda folder: (folder / "stage.json").unlink(),
    "record emptied": lambda folder: (folder / "stage.json").write_text(""),
    "record cut": lambda folder: (folder / "stage.json").write_text((folder / "stage.json").read_text()[:99]),
    "record of nothing": lambda folder: (folder / "stage.json").write_text("{}"),
    "record of another kind": lambda folder: (folder / "stage.json").write_text("[1]"),
    "record of another stage": lambda folder: edit(folder / "stage.json", f'"key": "{folder.name}"', '"key": "0"'),
    "record of garbage": lambda folder: (folder / "stage.json").write_bytes(os.urandom(300)),
    "a foreign folder": lambda folder: (shutil.rmtree(folder), folder.mkdir(), (folder / "mine").write_text("")),
    "a foreign file": lambda folder: (shutil.rmtree(folder), folder.write_text("")),
    "a link to nowhere": lambda folder: (shutil.rmtree(folder), folder.symlink_to("gone")),
}
# Seen by reading.
DEEP: dict[str, Callable[[Path], Any]] = {
    "a flipped bit": lambda folder: flip(folder / "weights"),
    "a flipped bit deep inside": lambda folder: flip(folder / "deep" / "table.csv"),
    "another recipe in the record": lambda folder: edit(folder / "stage.json", '"name": "', '"name": "x'),
    "another digest in the record": lambda folder: edit(folder / "stage.json", '"sha256": "', '"sha256": "0'),
}


@pytest.mark.parametrize("name", [*LIGHT, *DEEP])
def test_a_damaged_goal_is_made_anew_with_the_same_bytes(name, store: Store, computed, caplog) -> None:
    before = content(store)
    (LIGHT | DEEP)[name](store.folder(LAST))
    computed.clear()
    assert store.state(LAST) == ("damaged" if name in LIGHT else "hit")
    assert store.state(LAST, contents=True) == "damaged"
    assert go(store) == {"source": "hit", "middle": "hit", "last": "made"}
    assert computed == ["last"]
    assert content(store) == before
    record, *others = caplog.records
    assert len(others) == (name == "another digest in the record")  # that is what it is for
    text = record.getMessage()
    assert str(store.folder(LAST)) in text
    assert f"moved to .damaged-{LAST.key}, made anew" in text
    assert "\n" not in text
    assert os.path.lexists(store.root / "chained" / f".damaged-{LAST.key}")
    assert go(store) == {"last": "hit"}


@pytest.mark.parametrize("name", [*LIGHT, *DEEP])
def test_a_damaged_input_is_made_anew_before_it_is_read(name, store: Store, computed) -> None:
    before = content(store)
    (LIGHT | DEEP)[name](store.folder(SOURCE))
    shutil.rmtree(store.folder(MIDDLE))
    shutil.rmtree(store.folder(LAST))
    computed.clear()
    assert go(store) == {"source": "made", "middle": "made", "last": "made"}
    assert computed == ["source", "middle", "last"]
    assert content(store) == before


@pytest.mark.parametrize("name", [*LIGHT, *DEEP])
def test_what_is_read_through_a_need_is_looked_at_too(name, store: Store, computed) -> None:
    """As a report reads the places of what was measured."""
    before = content(store)
    (LIGHT | DEEP)[name](store.folder(SOURCE))
    shutil.rmtree(store.folder(LAST))
    computed.clear()
    assert go(store) == {"source": "made", "middle": "hit", "last": "made"}
    assert content(store) == before


@pytest.mark.parametrize("name", LIGHT)
def test_a_damaged_input_of_a_hit_is_made_anew(name, store: Store, computed) -> None:
    before = content(store)
    LIGHT[name](store.folder(SOURCE))
    computed.clear()
    assert go(store) == {"source": "made", "last": "hit"}
    assert content(store) == before


def test_what_only_a_hit_needs_may_be_gone(store: Store, computed) -> None:
    shutil.rmtree(store.folder(SOURCE))
    computed.clear()
    assert go(store) == {"last": "hit"}
    assert computed == []


def test_damaged_folders_are_numbered(store: Store) -> None:
    for _ in range(3):
        flip(store.folder(LAST) / "weights")
        go(store)
    names = sorted(path.name for path in (store.root / "chained").glob(".*"))
    assert names == [f".damaged-{LAST.key}{number}" for number in ("", "-2", "-3")]


def test_other_bytes_than_before_are_told(store: Store, caplog) -> None:
    record = store.folder(LAST) / "stage.json"
    found = json.loads(record.read_text())
    digest = found["files"]["weights"]["sha256"]
    edit(record, digest, "0" * len(digest))
    go(store)
    assert [("has other bytes than before" in record.getMessage()) for record in caplog.records] == [False, True]
    assert "weights" in caplog.records[1].getMessage()


def test_each_file_is_hashed_once_a_process(store: Store, monkeypatch) -> None:
    from mcr import digests

    monkeypatch.setattr(digests, "_digests", {})
    later = max(path.stat().st_ctime for path in store.root.rglob("*")) + 100
    monkeypatch.setattr(digests.time, "time", lambda: later)
    reads: list[str] = []
    hashed = digests.hashlib.file_digest
    monkeypatch.setattr(
        digests.hashlib, "file_digest", lambda stream, name: (reads.append(stream.name), hashed(stream, name))[1]
    )
    for _ in range(3):
        go(Store(store.root), *CHAIN)
    assert len(reads) == len(set(reads)) == 6


def test_the_record_lists_every_file(store: Store) -> None:
    found = json.loads((store.folder(LAST) / "stage.json").read_text())
    weights = (store.folder(LAST) / "weights").read_bytes()
    assert set(found["files"]) == {"weights", "deep/table.csv"}
    assert found["files"]["weights"] == {"bytes": 32, "sha256": hashlib.sha256(weights).hexdigest()}
    assert found["provenance"]["threads"] >= 1
    assert found["provenance"]["processor"]


@pytest.fixture
def read_only(monkeypatch) -> None:
    """As mounted read-only; permissions do not bind who runs tests as root."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("mcr.store.locks.FileLock.acquire", refuse)
    monkeypatch.setattr("mcr.store.store.os.replace", refuse)


def test_a_read_only_store_serves_hits_and_refuses_the_rest(store: Store, read_only: None) -> None:
    assert go(store, *CHAIN) == {"source": "hit", "middle": "hit", "last": "hit"}
    flip(store.folder(SOURCE) / "weights")
    with pytest.raises(InputError, match=r"has to be made \(weights is not what was written\), but cannot be written"):
        go(store, *CHAIN)


# --------------------------------------------------------------------------------------------- published whole


def test_files_are_on_the_disk_before_the_folder_has_its_name(tmp_path: Path, monkeypatch) -> None:
    steps: list[tuple[str, str]] = []
    sync, replace = disk.sync, os.replace
    for module in (disk, manifest):
        monkeypatch.setattr(module, "sync", lambda path: (steps.append(("sync", Path(path).name)), sync(path)))
    monkeypatch.setattr(os, "replace", lambda *names: (steps.append(("name", Path(names[1]).name)), replace(*names)))
    go(Store(tmp_path), SOURCE)
    partial = f".partial-{SOURCE.key}"
    written = ["table.csv", "weights", "stage.json", "deep", partial]
    assert steps == [*(("sync", name) for name in written), ("name", SOURCE.key), ("sync", "chained")]


def test_what_was_complete_when_its_process_was_killed_is_published(tmp_path: Path, computed, monkeypatch) -> None:
    """Its checkpoints have gone by then: computing it again would begin at the beginning."""
    store = Store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            go(store, SOURCE)
    assert not store.has(SOURCE)
    assert go(store, SOURCE) == {"source": "hit"}
    assert computed == ["source"]
    assert store.has(SOURCE, contents=True)


FULL = {
    "a number": OSError(errno.ENOSPC, "No space left on device"),
    "a quota": OSError(errno.EDQUOT, "Disk quota exceeded"),
    "words of safetensors": RuntimeError("Error while serializing: I/O error: Os { code: 28, kind: StorageFull }"),
    "words of torch": RuntimeError("write failed: No space left on device"),
}


@pytest.mark.parametrize("name", FULL)
def test_a_full_disk_names_the_place(name, tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        raise FULL[name]

    with pytest.raises(OSError, match=r"No space left on device: '.*\.partial-"):
        Store(tmp_path).fetch(SOURCE, fail, dict)


def test_another_error_stays_what_it_is(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        raise OSError("5 requested and 0 written")

    with pytest.raises(OSError, match=r"^5 requested and 0 written$"):
        Store(tmp_path).fetch(SOURCE, fail, dict)
    assert not list(tmp_path.rglob(".lock-*"))


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_files_follow_the_umask(mask: int, make, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        make(goal="connect")
    finally:
        os.umask(before)
    wrong = {
        str(path.relative_to(tmp_path)): oct(path.stat().st_mode & 0o777)
        for path in (tmp_path / "store").rglob("*")
        if path.stat().st_mode & 0o777 != ((0o777 if path.is_dir() else 0o666) & ~mask)
    }
    assert wrong == {}


# ------------------------------------------------------------------------------------------------ a real run


def test_a_run_mends_its_store(make, tmp_path: Path) -> None:
    """Pixels, weights, control points and a table with a flipped bit; what was made of them is there or not."""

    def state() -> dict[str, bytes]:
        return {
            path.relative_to(tmp_path).as_posix(): path.read_bytes()
            for path in (tmp_path / "store").glob("*/[!.]*/*")
            if path.name != "stage.json" and path.suffix not in (".png", ".svg")
        }

    made = make("logger=none", *TINY)
    before = state()
    for label, file in (("train start", "network.safetensors"), ("connect path", "control.safetensors")):
        flip(made[label][0] / file)
    flip(made["report"][0] / "path.csv")
    flip(next(made["data"][0].glob("*_images.npy")))
    for name in ("measure", "place", "connect"):
        label = next(label for label in made if label.startswith(name) and label != "connect path")
        shutil.rmtree(made[label][0])
    again = make("logger=none", *TINY)
    remade = {label for label, (_, how) in again.items() if how == "made"}
    assert {"train start", "connect path", "report", "data"} <= remade
    assert not {"train end", "split"} & remade
    assert state() == before


def test_a_damaged_stage_is_shown_and_nothing_is_written(make, tmp_path: Path, capsys, monkeypatch) -> None:
    made = make("logger=none", goal="connect")
    (made["train end"][0] / "network.safetensors").write_bytes(b"")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.dispatch(["show", "connect", *TINY, "logger=none", f"paths.root={tmp_path}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for label, state in (("train start", "hit"), ("train end", "damaged"), ("connect path", "hit")):
        assert state in next(line for line in lines if line.startswith(label)).split()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_damaged_subspace_of_a_run_is_refused(make, tmp_path: Path) -> None:
    made = make("logger=none", goal="evaluate")
    place = next(folder for label, (folder, _) in made.items() if label == "place path")
    link = tmp_path / "run" / "stages" / "place-path"
    link.parent.mkdir(parents=True)
    link.symlink_to(place)
    assert mcr.Subspace.of_run(tmp_path / "run").at(0.5) is not None
    flip(made["train start"][0] / "network.safetensors")
    with pytest.raises(InputError, match=r"train/.* is damaged: network\.safetensors is not what was written"):
        mcr.Subspace.of_run(tmp_path / "run")
    (made["train start"][0] / "stage.json").unlink()
    assert make("logger=none", goal="evaluate")["train start"][1] == "made"
    assert mcr.Subspace.of_run(tmp_path / "run").at(0.5) is not None

"""``mcr prune`` removes what nobody needs or holds, and nothing else."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from mcr.app import cli, prune
from mcr.errors import InputError
from mcr.store import leftovers, locks
from mcr.store.stage import Stage
from mcr.store.store import Store
from tests.conftest import TINY
from tests.processes import fresh

DONE, KILLED = Stage("train", 1, {"name": "done"}), Stage("train", 1, {"name": "killed"})


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with one result and all that may go."""
    root = tmp_path / "root"
    store = Store(root / "store")
    store.fetch(DONE, lambda folder: (folder / "weights").write_text("w"), lambda: {"device": "cpu"})
    partial = store.folder(KILLED).with_name(f".partial-{KILLED.key}")
    for place in (
        partial / "checkpoints" / "last.ckpt",
        store.folder(DONE).with_name(f".damaged-{DONE.key}") / "weights",
        store.folder(DONE).with_name(f".damaged-{DONE.key}-2") / "weights",
        store.folder(KILLED).with_name(f".lock-{KILLED.key}"),
        root / "runs" / "one" / "wandb" / ".cache" / "tmp" / "abc" / "media.png",
        root / "runs" / "one" / "wandb" / ".cache" / "artifacts" / "staging" / "table",
        root / "runs" / "one" / "report.md",
        root / "sweeps" / "two" / "0" / "wandb" / ".cache" / "tmp" / "media.png",
    ):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"" if place.name.startswith(".lock") else b"12345")
    return root


KEPT = [
    "runs/one/report.md",
    "runs/one/wandb/.cache/artifacts/staging/table",  # wandb sync sends it
    f"store/train/{DONE.key}/stage.json",
    f"store/train/{DONE.key}/weights",
]


def paths(root: Path) -> dict[str, Any]:
    return {"root": str(root), "store": str(root / "store")}


def test_what_may_go_is_shown_with_its_size_and_stays(root: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    before = files(root)
    prune.prune(paths(root), remove=False)
    said = capsys.readouterr().out
    assert files(root) == before
    assert "6 leftovers, 0.0 MB, may go: mcr prune --yes removes them" in said
    for name in (f".partial-{KILLED.key}", f".damaged-{DONE.key}", f".damaged-{DONE.key}-2", f".lock-{KILLED.key}"):
        assert f"{name}\n" in said.replace(" ", "")
    assert sum(one.bytes for one in leftovers.find(root, root / "store")) == 25


def test_results_stay_and_the_rest_goes(root: Path, capsys) -> None:
    prune.prune(paths(root), remove=True)
    assert files(root) == KEPT
    assert "6 leftovers, 0.0 MB, removed" in capsys.readouterr().out
    assert leftovers.find(root, root / "store") == []
    prune.prune(paths(root), remove=True)
    assert "nothing to remove" in capsys.readouterr().out


def test_what_cannot_be_removed_is_told(root: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("mcr.store.leftovers.shutil.rmtree", lambda *_, **__: None)
    prune.prune(paths(root), remove=True)
    said = capsys.readouterr().out
    assert f".partial-{KILLED.key} stays:" in said.replace("\n", "")
    assert "1 leftover, 0.0 MB, removed" in said  # the lock


def _hold(folder: str, events: Any) -> None:
    with locks.held(Path(folder), "train"):
        events[0].set()
        events[1].wait(60)


def test_what_a_living_process_holds_stays_and_is_free_when_it_is_dead(root: Path) -> None:
    context = multiprocessing.get_context("spawn")
    events = (context.Event(), context.Event())
    process = context.Process(target=_hold, args=(str(Store(root / "store").folder(KILLED)), events))
    process.start()
    assert events[0].wait(60)
    held = {f".partial-{KILLED.key}", f".lock-{KILLED.key}"}
    found = leftovers.find(root, root / "store")
    assert not held & {one.place.name for one in found}
    # Taken hold of after it was listed.
    late = leftovers.Leftover(root / "store" / "train" / f".partial-{KILLED.key}", "unfinished", 5)
    assert not late.remove()
    assert late.place.is_dir()
    process.kill()
    process.join()
    assert held <= {one.place.name for one in leftovers.find(root, root / "store")}
    assert late.remove()


def test_an_empty_place_has_nothing_to_remove_and_is_not_made(tmp_path: Path, capsys) -> None:
    prune.prune(paths(tmp_path / "gone"), remove=True)
    assert "nothing to remove" in capsys.readouterr().out
    assert not (tmp_path / "gone").exists()


def test_the_command_line_prunes(root: Path, capsys) -> None:
    assert cli.dispatch(["prune", f"paths.root={root}"]) == 0
    assert "6 leftovers" in capsys.readouterr().out
    assert cli.dispatch(["prune", "--yes", f"paths.root={root}"]) == 0
    assert files(root) == KEPT
    with pytest.raises(InputError, match="--yes"):
        cli.dispatch(["show", "--yes", f"paths.root={root}"])


@pytest.mark.slow
def test_a_finished_command_leaves_nothing_to_prune_nor_in_the_temporary_folder(tmp_path: Path) -> None:
    """With W&B, whose folders are made where it is imported."""
    (tmp_path / "tmpdir").mkdir()
    done = fresh(*TINY, "logger=wandb", "paths.root=root", folder=tmp_path, TMPDIR=str(tmp_path / "tmpdir"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert leftovers.find(tmp_path / "root", tmp_path / "root" / "store") == []
    assert not list((tmp_path / "root" / "store").glob("*/.*"))
    # torch keeps one cache there for all commands of a user.
    assert not [name for name in os.listdir(tmp_path / "tmpdir") if not name.startswith("torchinductor_")]

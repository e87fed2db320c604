"""Keys, seeds and the store."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import Any

import pytest

from mcr import digests
from mcr.errors import InputError
from mcr.numerics.seeding import generator, seed_for
from mcr.store import identity, jsonfile, locks
from mcr.store.stage import Stage
from mcr.store.store import Store


def cpu() -> dict[str, Any]:
    return {"device": "cpu", "threads": 1}


def test_the_same_number_has_the_same_key() -> None:
    assert identity.key({"a": 1, "b": "8/255"}) == identity.key({"b": 8 / 255, "a": 1.0})
    assert identity.key({"a": 1}) != identity.key({"a": True})
    assert identity.key({"a": "1"}) != identity.key({"a": 1})
    assert identity.key({"a": [1, 2]}) != identity.key({"a": [2, 1]})


def test_a_path_that_looks_like_a_fraction_stays_a_path() -> None:
    assert identity.numbers({"root": "1/2", "eps": "1/2", "grid": ["1/4"]}) == {
        "root": "1/2",
        "eps": 0.5,
        "grid": [0.25],
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1/0"])
def test_unusable_numbers_are_refused(value) -> None:
    with pytest.raises(InputError):
        identity.key({"a": value})


def test_a_key_follows_recipe_version_and_needs_but_no_place() -> None:
    need, other = Stage("data", 1, {"seed": 0}), Stage("data", 1, {"seed": 1})
    stage = Stage("train", 1, {"lr": 0.1}, {"path": need})
    different = [
        Stage("train", 2, {"lr": 0.1}, {"path": need}),
        Stage("train", 1, {"lr": 0.2}, {"path": need}),
        Stage("train", 1, {"lr": 0.1}, {"path": other}),
        Stage("train", 1, {"lr": 0.1}, {"role": need}),
        Stage("train", 1, {"lr": 0.1, "path": "x"}, {"path": need}),
    ]
    assert len({stage.key, *(each.key for each in different)}) == 6
    assert stage.key == Stage("train", 1, {"lr": 0.1}, {"path": need}, "label", {"root": "/elsewhere"}).key


def test_editing_one_s_own_network_changes_its_identity(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "edited_network.py"
    module.write_text("class Net: ...\n")
    first = digests.source_digest("edited_network.Net")
    module.write_text("class Net: ... # changed\n")
    assert digests.source_digest("edited_network.Net") != first
    assert digests.source_digest("torchvision.models.resnet18").startswith("torchvision==")
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("from own_package.net import Net\n")
    (package / "net.py").write_text("class Net: ...\n")
    whole = digests.source_digest("own_package.Net")
    (package / "net.py").write_text("class Net: ... # changed\n")
    assert digests.source_digest("own_package.Net") != whole
    with pytest.raises(InputError, match="no module"):
        digests.source_digest("no_such_package.Net")
    for target in ("sys.exit", "zipimport.zipimporter"):
        with pytest.raises(InputError, match="is a part of Python itself"):
            digests.source_digest(target)


def test_seeds_are_named_by_their_use() -> None:
    assert seed_for(0, "order", 1) == seed_for(0, "order", 1)
    assert len({seed_for(s, role, e) for s in range(3) for role in ("order", "t") for e in range(3)}) == 18
    # Words that stand side by side do not run together: 11 "a" is not 1 "1a".
    assert len({seed_for(*words) for words in ((11, "a"), (1, "1a"), (1, 1, "a"))}) == 3
    assert generator(1, "a").initial_seed() == seed_for(1, "a") < 2**63


def test_a_stage_is_computed_once_and_published_whole(tmp_path: Path) -> None:
    store, stage, calls = Store(tmp_path), Stage("train", 1, {"lr": "1/4"}), []

    def compute(folder: Path) -> None:
        assert not store.has(stage)
        calls.append(folder)
        (folder / "weights").write_text("w")

    folders = {store.fetch(stage, compute, cpu) for _ in range(2)}
    assert len(calls) == len(folders) == 1
    folder = folders.pop()
    assert (folder / "weights").read_text() == "w"
    record = json.loads((folder / "stage.json").read_text())
    assert record["config"] == {"lr": 0.25}
    assert record["provenance"]["device"] == "cpu"
    assert not list(folder.parent.glob(".partial*"))


@pytest.mark.parametrize("error", [RuntimeError("x"), OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_computation_publishes_nothing_and_can_go_on(tmp_path: Path, error: BaseException) -> None:
    store, stage = Store(tmp_path), Stage("train", 1, {})

    def fail(folder: Path) -> None:
        (folder / "half").write_text("h")
        raise error

    with pytest.raises(type(error)):
        store.fetch(stage, fail, cpu)
    assert not store.has(stage)
    assert not store.folder(stage).exists()
    found = store.fetch(stage, lambda folder: (folder / "rest").write_text((folder / "half").read_text()), cpu)
    # What the first try took is not in its numbers, and the record says so.
    assert json.loads((found / "stage.json").read_text())["provenance"]["resumed"] is True
    other = store.fetch(Stage("whole", 1, {}), lambda folder: (folder / "all").write_text("x"), cpu)
    assert "resumed" not in json.loads((other / "stage.json").read_text())["provenance"]
    assert (found / "rest").read_text() == "h"


def test_two_processes_that_find_the_same_damage_mend_it_once(tmp_path: Path) -> None:
    context, log = multiprocessing.get_context("spawn"), tmp_path / "log"
    _slow(str(tmp_path / "store"), str(log))
    folder = Store(tmp_path / "store").folder(Stage("train", 1, {"same": True}))
    (folder / "stage.json").unlink()
    processes = [context.Process(target=_slow, args=(str(tmp_path / "store"), str(log))) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert log.read_text() == 2 * "computed\n"
    assert sorted(path.name for path in folder.parent.iterdir()) == [f".damaged-{folder.name}", folder.name]


def test_a_lock_is_there_only_while_it_is_held(tmp_path: Path) -> None:
    store, stage = Store(tmp_path), Stage("train", 1, {})

    def compute(folder: Path) -> None:
        assert locks.lock_file(store.folder(stage)).is_file()
        assert not locks.is_free(store.folder(stage))
        with locks.claimed(store.folder(stage)) as free:
            assert not free

    folder = store.fetch(stage, compute, cpu)
    assert locks.is_free(folder)
    assert [path.name for path in folder.parent.iterdir()] == [stage.key]


def test_a_lock_that_another_machine_removed_is_taken_anew(tmp_path: Path, monkeypatch) -> None:
    calls, acquire = [], locks.FileLock.acquire

    def stale_at_first(self: Any, *args: Any, **settings: Any) -> Any:
        calls.append(self)
        if len(calls) < 3:
            raise OSError(errno.ESTALE, "Stale file handle")
        return acquire(self, *args, **settings)

    monkeypatch.setattr(locks.FileLock, "acquire", stale_at_first)
    with locks.held(tmp_path / "folder", "train"):
        assert len(calls) == 3
        assert locks.lock_file(tmp_path / "folder").is_file()


def _count(folder: str, place: str) -> None:
    for _ in range(40):
        with locks.held(Path(folder), "count"):
            number = int(Path(place).read_text())
            time.sleep(0.001)
            Path(place).write_text(str(number + 1))


def at_once(count: int, target: Callable[..., None], *args: str) -> None:
    """A function in several processes at once, which all have to end well."""
    processes = [multiprocessing.get_context("spawn").Process(target=target, args=args) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0


def test_who_waits_for_a_lock_that_was_removed_takes_the_next(tmp_path: Path) -> None:
    """Each of four processes removes the file that the others wait for, many times; nobody is ever alone with it."""
    place = tmp_path / "number"
    place.write_text("0")
    at_once(4, _count, str(tmp_path / "folder"), str(place))
    assert place.read_text() == "160"
    assert not locks.lock_file(tmp_path / "folder").exists()


# ---------------------------------------------------------------------------------------- what is no finite number


def test_json_has_no_value_where_there_is_none_and_reading_gives_it_back(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    jsonfile.write(path, {"se": float("nan"), "deep": [(1.5, float("-inf"))], "text": "nan", "flag": True, "n": 3})
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {
        "se": None,
        "deep": [[1.5, None]],
        "text": "nan",
        "flag": True,
        "n": 3,
    }
    found = jsonfile.read(path)
    assert isnan(found["se"])
    assert isnan(found["deep"][0][1])
    assert found["flag"] is True


def test_json_is_written_in_one_place() -> None:
    """Elsewhere only for digests and records, which hold no results."""
    package = Path(jsonfile.__file__).parent.parent
    users = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if "json.dump" in path.read_text()}
    assert users == {
        *("datasets/folder.py", "store/identity.py", "store/jsonfile.py", "store/manifest.py"),
        "foreign/child.py",  # its answer to the process that asked
    }


def _slow(root: str, log: str) -> None:
    def compute(folder: Path) -> None:
        with open(log, "a") as stream:
            stream.write("computed\n")
        time.sleep(1)

    Store(root).fetch(Stage("train", 1, {"same": True}), compute, cpu)


def test_two_processes_that_want_the_same_stage_compute_it_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    at_once(2, _slow, str(tmp_path / "store"), str(log))
    assert log.read_text() == "computed\n"


def test_who_waits_says_for_whom(tmp_path: Path, caplog) -> None:
    def wait() -> None:
        with locks.held(tmp_path / "stage", "train end"):
            pass

    caplog.set_level("INFO", logger="mcr")
    with locks.held(tmp_path / "stage", "train start"):
        waiting = threading.Thread(target=wait)
        waiting.start()
        while not caplog.records:
            time.sleep(0.01)
    waiting.join()
    owner = f"process {os.getpid()} on {socket.gethostname()}"
    assert f"train end            stage  {owner} makes it: waiting" in caplog.text
    assert not list(tmp_path.iterdir())

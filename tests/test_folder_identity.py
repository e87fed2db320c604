"""What an image folder is: exactly the images that are decoded, and a fingerprint of the same."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mcr import digest_memory, digests
from mcr.datasets import folder
from mcr.datasets.folder import image_folder_fingerprint, tiny_imagenet_fingerprint
from mcr.datasets.imagefolder import ImageFolder
from mcr.datasets.left_out import left_out
from mcr.datasets.tiny_imagenet import TinyImageNet
from mcr.errors import InputError
from mcr.types import RawDataset


def draw(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(path)


def photos(root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 2) -> Path:
    """A folder of grey images; each has its number of class and image in its pixels."""
    for label, name in enumerate(classes):
        for index in range(count):
            draw(root / name / f"{index}.png", 10 * label + index)
    return root


def load(root: Path) -> RawDataset:
    return ImageFolder(str(root), 1, "native", "auto", "ignored", "x").load()


def fingerprint(root: Path) -> str:
    return image_folder_fingerprint(str(root))


def values(source: RawDataset, part: str = "all") -> list[int]:
    return source.parts[part].images[:, 0, 0, 0].tolist()


def test_the_place_of_a_folder_does_not_count(tmp_path: Path, monkeypatch) -> None:
    expected = fingerprint(photos(tmp_path / "a"))
    assert fingerprint(photos(tmp_path / "b")) == expected
    monkeypatch.chdir(tmp_path / "b" / "cat")
    assert fingerprint(Path("..")) == image_folder_fingerprint("./..//") == expected
    monkeypatch.chdir(tmp_path / "b")
    assert fingerprint(Path(".")) == expected
    with pytest.raises(InputError, match=r"no folder .*; get it there"):
        image_folder_fingerprint(str(tmp_path / "c"), hint="get it there")


CHANGES = {
    "another image": lambda root: draw(root / "cat" / "0.png", 99),
    "one more image": lambda root: draw(root / "cat" / "2.png", 99),
    "one image less": lambda root: (root / "cat" / "0.png").unlink(),
    "another name": lambda root: (root / "cat" / "0.png").rename(root / "cat" / "9.png"),
    "another class": lambda root: (root / "cat" / "0.png").rename(root / "dog" / "9.png"),
    "another name of a class": lambda root: (root / "cat").rename(root / "bat"),
    "an empty class": lambda root: (root / "eel").mkdir(),
    "an own test part": lambda root: (photos(root / "train"), photos(root / "test")),
    "images exchanged": lambda root: (draw(root / "cat" / "0.png", 10), draw(root / "dog" / "0.png", 0)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_fingerprint_follows_all_that_is_decoded(change: str, tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    before = fingerprint(root)
    CHANGES[change](root)
    assert fingerprint(root) != before


LITTER = ["cat/.DS_Store", ".DS_Store", "Thumbs.db", "cat/Thumbs.db", "cat/._0.png", "cat/.hidden.png"]
LITTER += [".ipynb_checkpoints/0.png", "__MACOSX/cat/0.png", "cat/__MACOSX/0.png", "cat/desktop.ini", "labels.csv"]


@pytest.mark.parametrize("name", LITTER)
def test_what_desktops_leave_behind_is_neither_read_nor_hashed(name: str, tmp_path: Path, caplog) -> None:
    root = photos(tmp_path / "photos")
    before = fingerprint(root)
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(b"\0\5\026\7")
    assert fingerprint(root) == before
    assert load(root).classes == ("cat", "dog")
    assert values(load(root)) == [0, 1, 10, 11]
    assert "left out" not in caplog.text


@pytest.mark.parametrize("kind", ["classes", "files", "parts", "root"])
def test_links_are_read_through(kind: str, tmp_path: Path) -> None:
    real = tmp_path / "real"
    for part in ("train", "test"):
        photos(real / part)
    root = tmp_path / "photos"
    if kind == "root":
        root.symlink_to(real)
    for part in ("train", "test") if kind != "root" else ():
        if kind == "parts":
            root.mkdir(exist_ok=True)
            (root / part).symlink_to(real / part)
            continue
        (root / part).mkdir(parents=True)
        for name in ("cat", "dog"):
            if kind == "classes":
                (root / part / name).symlink_to(real / part / name)
                continue
            (root / part / name).mkdir()
            for file in (real / part / name).iterdir():
                (root / part / name / file.name).symlink_to(file)
    before = fingerprint(root)
    assert before == fingerprint(real)
    assert values(load(root), "test") == [0, 1, 10, 11]
    draw(real / "test" / "dog" / "1.png", 77)
    assert fingerprint(root) == fingerprint(real) != before
    assert values(load(root), "test") == [0, 1, 10, 77]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    before = fingerprint(root)
    (root / "cat" / "up").symlink_to(root)
    (root / "cat" / "self").symlink_to(root / "cat" / "self")
    (root / "cat" / "self.png").symlink_to(root / "cat" / "self.png")
    with pytest.raises(InputError, match=r"self\.png"):
        fingerprint(root)
    (root / "cat" / "self.png").unlink()
    assert fingerprint(root) == before
    assert values(load(root)) == [0, 1, 10, 11]
    assert left_out(root, folder.image_folder(root)) == "1 other files (1 self)"


@pytest.mark.parametrize("count", [2, 11, 12])
def test_classes_that_are_numbers_come_in_the_order_of_their_values(count: int, tmp_path: Path) -> None:
    names = tuple(map(str, range(count)))
    source = load(photos(tmp_path / "photos", names, count=1))
    assert source.classes == names
    assert values(source) == [10 * label for label in range(count)]
    assert source.parts["all"].labels.tolist() == list(range(count))


@pytest.mark.parametrize(
    "names",
    [
        ("1", "10", "2", "x"),
        ("class0", "class1", "class10", "class2"),
        ("B", "a", "b"),
        ("-1", "0", "1.5"),
        ("01", "1"),
    ],
)
def test_other_classes_come_in_the_order_of_torchvision(names: tuple[str, ...], tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder as Theirs

    root = photos(tmp_path / "photos", names)
    assert load(root).classes == names == tuple(Theirs(str(root)).classes)


@given(st.lists(st.integers(0, 10**30), min_size=2, unique=True))
def test_numbers_of_any_length_are_ordered(numbers: list[int]) -> None:
    assert folder._in_order([str(number) for number in numbers]) == tuple(map(str, sorted(numbers)))


def test_images_that_are_left_out_are_named_and_counted_in_one_line(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for part in ("train", "test", "more"):
        photos(root / part)
    draw(root / "train" / "cat" / "more" / "deep" / "0.png", 1)
    draw(root / "train" / "loose.png", 1)
    draw(root / "loose.png", 1)
    for index in range(3):
        (root / "train" / "dog" / f"{index}.gif").write_bytes(b"GIF89a")
    source = load(root)
    assert values(source, "train") == [0, 1, 10, 11]
    assert source.notes == (
        "left out: 5 images in more/, train/cat/more/; 2 images in no class folder; 3 other files (3 .gif)",
    )


def test_a_whole_folder_has_nothing_left_out(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    (root / "README.txt").write_text("Photos.")
    assert load(root).notes == ()


def test_all_broken_images_are_told_at_once(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for part in ("train", "test"):
        photos(root / part, count=3)
    for index in range(2):
        for part in ("train", "test"):
            (root / part / "dog" / f"{index}.png").write_bytes(b"no image")
    with pytest.raises(InputError) as caught:
        load(root)
    text = str(caught.value)
    assert text.startswith("4 files cannot be used: ")
    assert text.count("is no readable image") == 3
    assert text.endswith("; 1 more")
    assert "\n" not in text


def test_all_files_that_cannot_be_read_are_told_at_once(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    for index in (5, 6):
        (root / "cat" / f"{index}.png").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match=r"^2 files cannot be used: .*5\.png.*6\.png"):
        fingerprint(root)


def test_all_empty_classes_are_told_at_once(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    for name in ("ant", "bee"):
        (root / name).mkdir()
    with pytest.raises(InputError, match=r"ant holds no image \(.*\.png.*\), nor does .*bee$"):
        load(root)


def tiny(root: Path) -> Path:
    for label, name in enumerate(("n01", "n02")):
        draw(root / "train" / name / "images" / f"{name}_0.JPEG", 10 * label)
        (root / "train" / name / f"{name}_boxes.txt").write_text("0")
    for index in range(2):
        draw(root / "val" / "images" / f"val_{index}.JPEG", 100 + index)
    rows = [f"val_{index}.JPEG\tn0{2 - index}\t0\t0\t62\t62\n" for index in range(2)]
    (root / "val" / "val_annotations.txt").write_text("".join(rows))
    draw(root / "test" / "images" / "test_0.JPEG", 1)
    return root


def test_tiny_imagenet_s_fingerprint_follows_images_and_annotations(tmp_path: Path) -> None:
    root = tiny(tmp_path / "tiny")
    seen = [tiny_imagenet_fingerprint(str(root))]
    source = TinyImageNet(str(root), "auto", "x").load()
    assert source.parts["train"].labels.tolist() == [0, 1]
    assert source.parts["test"].labels.tolist() == [1, 0]
    draw(root / "test" / "images" / "test_0.JPEG", 2)  # without labels, never read
    (root / "train" / "n01" / ".DS_Store").write_text("")
    (root / "train" / "n01" / "images" / "._n01_0.JPEG").write_text("")
    assert tiny_imagenet_fingerprint(str(root)) == seen[0]
    assert TinyImageNet(str(root), "auto", "x").load().parts["train"].labels.tolist() == [0, 1]
    draw(root / "val" / "images" / "val_0.JPEG", 200)
    seen.append(tiny_imagenet_fingerprint(str(root)))
    draw(root / "train" / "n02" / "images" / "n02_0.JPEG", 200)
    seen.append(tiny_imagenet_fingerprint(str(root)))
    annotations = root / "val" / "val_annotations.txt"
    annotations.write_text(annotations.read_text().replace("n02", "n01"))
    seen.append(tiny_imagenet_fingerprint(str(root)))
    assert len(set(seen)) == 4
    annotations.write_text("val_0.JPEG\tn03\n")
    with pytest.raises(InputError, match="names no class folder"):
        tiny_imagenet_fingerprint(str(root))
    with pytest.raises(InputError, match=r"no folder .*; get it there"):
        tiny_imagenet_fingerprint(str(tmp_path / "gone"), hint="get it there")


def test_a_command_follows_the_folder(request_for, tmp_path: Path) -> None:
    """Within one process too: nothing older than the file is remembered."""
    root = photos(tmp_path / "photos")
    words = ("dataset=imagefolder", f"dataset.root={root}", "dataset.channels=1")

    def composed() -> str:
        found: str = request_for(*words).jobs[0].config["dataset"]["fingerprint"]
        return found

    before = composed()
    assert before == composed() == fingerprint(root)
    draw(root / "cat" / "0.png", 99)
    assert composed() == fingerprint(root) != before


# ------------------------------------------------------------------------------------------------ digests of files


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The files whose bytes are hashed."""
    found: list[str] = []
    hashed = digests.hashlib.file_digest

    def file_digest(stream, name):
        found.append(stream.name)
        return hashed(stream, name)

    monkeypatch.setattr(digests.hashlib, "file_digest", file_digest)
    monkeypatch.setattr(digests, "_digests", {})
    return found


def old(path: Path, text: str, seconds: float) -> Path:
    path.write_text(text)
    os.utime(path, (seconds, seconds))
    return path


def test_a_file_that_has_settled_is_read_once(tmp_path: Path, reads: list[str], monkeypatch) -> None:
    path = tmp_path / "file"
    path.write_text("12")
    later = path.stat().st_ctime + 100
    monkeypatch.setattr(digests.time, "time", lambda: later)
    assert digests.file_digest(str(path)) == digests.file_digest(str(path))
    assert len(reads) == 1
    with pytest.raises(InputError, match="the limit is"):
        digests.file_digest(str(path), most_megabytes=1e-6)


@pytest.mark.parametrize(
    "change", ["content", "content but not its time", "size", "another file of the same size and time"]
)
def test_a_changed_file_is_read_again(change: str, tmp_path: Path, reads: list[str], monkeypatch) -> None:
    path = old(tmp_path / "file", "12", 1e9)
    later = path.stat().st_ctime + 100
    monkeypatch.setattr(digests.time, "time", lambda: later)
    before = digests.file_digest(str(path))
    if change == "content":
        path.write_text("13")
    elif change == "content but not its time":
        old(path, "13", 1e9)
    elif change == "size":
        path.write_text("123")
    else:
        old(tmp_path / "other", "13", 1e9).replace(path)
    assert digests.file_digest(str(path)) != before
    assert len(reads) == 2


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path: Path, reads: list[str]) -> None:
    """It could change again within one tick of the file system's clock."""
    path = tmp_path / "file"
    path.write_text("12")
    assert digests.file_digest(str(path)) == digests.file_digest(str(path))
    assert len(reads) == 2


@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "link to a device"])
def test_what_is_no_plain_file_is_refused_unread(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    else:
        path = Path("/dev/zero")
    with pytest.raises(InputError, match="is no plain file"):
        digests.file_digest(str(path))


def test_listing_a_folder_needs_no_torch() -> None:
    script = "import sys, mcr.datasets.folder; sys.exit(bool({'torch', 'PIL', 'numpy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", script], check=True)


# --------------------------------------------------------------------------------------- digests of earlier commands


class Command:
    """Fingerprints of folders as commands give them, each in a process of its own."""

    def __init__(self, store: Path, reads: list[str], monkeypatch) -> None:
        self.store, self.reads, self.monkeypatch = store, reads, monkeypatch

    def __call__(self, root: Path) -> tuple[str, int]:
        """The fingerprint, and how many files were read for it."""
        self.monkeypatch.setattr(digests, "_digests", {})
        self.monkeypatch.setattr(digests, "_memories", {})
        before = len(self.reads)
        return image_folder_fingerprint(str(root), store=str(self.store)), len(self.reads) - before


@pytest.fixture
def command(tmp_path: Path, reads: list[str], monkeypatch) -> Command:
    (tmp_path / "store").mkdir()
    settled = time.time() + 100
    monkeypatch.setattr(digests.time, "time", lambda: settled)
    return Command(tmp_path / "store", reads, monkeypatch)


def memory(command: Command) -> Path:
    return command.store / "digests.sqlite"


def test_what_an_earlier_command_read_is_not_read_again(tmp_path: Path, command: Command) -> None:
    root = photos(tmp_path / "photos")
    count = len(list(root.glob("*/*.png")))
    expected = fingerprint(root)
    assert command(root) == (expected, count)
    assert command(root) == (expected, 0)
    # Another folder, and one whose name begins alike, are others.
    assert command(photos(tmp_path / "photos2"))[1] == count
    assert command(root) == (expected, 0)


@pytest.mark.parametrize("change", ["content", "content but not its time", "another file", "a new one"])
def test_only_what_has_changed_is_read_again(change: str, tmp_path: Path, command: Command) -> None:
    root = photos(tmp_path / "photos")
    before, _ = command(root)
    path = root / "cat" / "0.png"
    if change == "content":
        draw(path, 99)
    elif change == "content but not its time":
        times = path.stat()
        draw(path, 99)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif change == "another file":
        draw(tmp_path / "other.png", 99)
        (tmp_path / "other.png").replace(path)
    else:
        draw(root / "cat" / "new.png", 99)
    after, read = command(root)
    assert read == 1
    assert after == fingerprint(root) != before
    assert command(root) == (after, 0)


def test_a_file_that_has_just_changed_is_not_remembered_for_later(
    tmp_path: Path, command: Command, monkeypatch
) -> None:
    root = photos(tmp_path / "photos")
    monkeypatch.setattr(digests.time, "time", lambda: max(path.stat().st_ctime for path in root.rglob("*")) + 0.1)
    first = command(root)
    assert command(root) == first
    assert not memory(command).exists()


DAMAGES = {
    "lost": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(os.urandom(5000)),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "of another table": lambda path: sql(path, "DROP TABLE digests", "CREATE TABLE digests (other TEXT)"),
    "a state that is none": lambda path: sql(path, "UPDATE digests SET state = 'x y'"),
    "no digest": lambda path: sql(path, "UPDATE digests SET digest = NULL"),
    "a digest that is none": lambda path: sql(path, "UPDATE digests SET digest = 'abc'"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


def sql(path: Path, *lines: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        for line in lines:
            database.execute(line)
        database.commit()


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_memory_costs_time_only(name: str, tmp_path: Path, command: Command) -> None:
    root = photos(tmp_path / "photos")
    expected, count = command(root)
    DAMAGES[name](memory(command))
    assert command(root) == (expected, count)
    if name not in ("a folder", "of another table"):
        assert command(root)[0] == expected
        assert command(root) == (expected, 0)


def test_a_memory_that_another_process_writes_or_nobody_may_write_is_done_without(
    tmp_path: Path, command: Command, monkeypatch
) -> None:
    root = photos(tmp_path / "photos")
    expected, count = command(root)
    monkeypatch.setattr(digest_memory, "SECONDS", 0.01)
    with closing(sqlite3.connect(memory(command))) as database:
        database.execute("BEGIN EXCLUSIVE")
        assert command(root) == (expected, count)
    assert command(root) == (expected, 0)


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, command: Command) -> None:
    root = photos(tmp_path / "photos")
    command.store.rmdir()
    assert command(root) == command(root)
    assert not command.store.exists()


def test_names_that_are_no_text_are_remembered(tmp_path: Path, command: Command) -> None:
    root = photos(tmp_path / "photos")
    os.rename(root / "cat" / "0.png", os.fsdecode(os.fsencode(root / "cat") + b"/\xff0.png"))
    first, count = command(root)
    assert count
    assert command(root) == (first, 0)


def test_a_command_remembers_in_its_store(request_for, tmp_path: Path, command: Command) -> None:
    root = photos(tmp_path / "photos")
    words = ("dataset=imagefolder", f"dataset.root={root}", "dataset.channels=1", f"paths.store={command.store}")
    assert request_for(*words).jobs[0].config["dataset"]["fingerprint"] == fingerprint(root)
    assert memory(command).is_file()
    assert command(root)[1] == 0

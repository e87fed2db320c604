"""Which images a folder holds, without reading one: the decoder's list, and the fingerprint of the same files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mcr.datasets.classes import AUTO, Classes, classes
from mcr.digests import file_digest, remembered
from mcr.errors import InputError

SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".ppm", ".pgm", ".webp", ".tif", ".tiff"})
# What desktops and archivers leave behind, hidden files apart.
LITTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
# Parts to the names that their folders may have, in small letters or capitals.
PARTS = {"train": ("train", "training"), "test": ("test", "testing"), "validation": ("val", "valid", "validation")}
PORTION = 64  # files that a thread takes at once
MOST_NAMED = 3  # files or errors in one line
S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Listing:
    """The images of one part of a data set.

    Attributes:
        folder: Where the part lies.
        classes: In the order of the labels, with their folders.
        files: Each image and the number of its class, in the order in which they are decoded.
    """

    folder: Path
    classes: Classes
    files: tuple[tuple[Path, int], ...]

    def check(self) -> None:
        """Raises InputError where there are fewer than two classes, or some have no image."""
        count = len(self.classes.index)
        if count < 2:
            raise InputError(f"{self.folder} has {count} class folders; at least two are needed")
        filled = {label for _, label in self.files}
        empty = [
            " and ".join(str(self.folder / name) for name in names)
            for label, names in enumerate(self.classes.folders)
            if names and label not in filled
        ]
        if empty:
            nor = f", nor does {first(empty[1:], ', ')}" if len(empty) > 1 else ""
            raise InputError(f"{empty[0]} holds no image ({', '.join(sorted(SUFFIXES))}){nor}")


def image_folder(root: Path, chosen: Any = AUTO) -> dict[str, Listing]:
    """Parts "train" and "test", and "validation" beside them, where there are folders of such names; else "all".

    Classes are the folders of a part: in the order of their values where all are whole numbers (2 before 10), else
    in the order of their names, as torchvision's. Linked folders and files are read through; hidden ones and litter
    are left out, and so is all that lies deeper.

    Args:
        root: The folder.
        chosen: ``dataset.classes``: "auto", or another order and choice of the folders.

    Raises:
        InputError: For a part that lacks its other, two folders for one part, and as ``classes``.
    """
    return {name: _class_folders(folder, chosen) for name, folder in _parts(root).items()}


def _parts(root: Path) -> dict[str, Path]:
    folders = [entry.name for entry in entries(root) if is_folder(entry)]
    found: dict[str, Path] = {}
    for part, names in PARTS.items():
        same = [name for name in folders if name.lower() in names]
        if part == "validation":
            same = [name for name in same if _divided(root / name)]
            if not {"train", "test"} <= set(found):
                break
        if len(same) > 1:
            raise InputError(f"{root} has the folders {' and '.join(same)}: only one of them can be the {part} part")
        if same:
            found[part] = root / same[0]
    if len(found) == 1:
        (only,) = found.values()
        # A class may have such a name, a train among cars and ships: its folder holds images, and no folders.
        if not _divided(only):
            return {"all": root}
        beside = [name for name in folders if name.lower() in PARTS["validation"]]
        hint = f"; is {beside[0]} meant? then call it test" if beside and "test" not in found else ""
        raise InputError(f"{root} has a folder {only.name} but not the other of train/ and test/{hint}")
    return found or {"all": root}


def _divided(folder: Path) -> bool:
    """Whether there are folders in it."""
    return any(is_folder(entry) for entry in entries(folder))


def _class_folders(folder: Path, chosen: Any) -> Listing:
    found = classes(chosen, _in_order([entry.name for entry in entries(folder) if is_folder(entry)]), folder)
    files = [(path, label) for name, label in found.index.items() for path in images(folder / name)]
    return Listing(folder, found, tuple(files))


def tiny_imagenet(root: Path, chosen: Any = AUTO) -> dict[str, Listing]:
    """Parts "train" (train/CLASS/images/*) and "test" (val/images/*, labelled by val_annotations.txt).

    Args:
        root: The folder.
        chosen: ``dataset.classes``, see ``image_folder``; images of other classes are left out of both parts.

    Raises:
        InputError: Where the files are missing, or a label names no class.
    """
    annotations = root / "val" / "val_annotations.txt"
    if not annotations.is_file() or not (root / "train").is_dir():
        raise InputError(f"there is no {annotations}, or no train: is {root} the unpacked tiny-imagenet-200?")
    folder = root / "train"
    found = classes(chosen, _in_order([entry.name for entry in entries(folder) if is_folder(entry)]), folder)
    index = found.index
    train = [(path, label) for name, label in index.items() for path in images(folder / name / "images")]
    test = []
    for row in annotations.read_text(encoding="utf-8").splitlines():
        if not row:
            continue
        file, name, *_ = [*row.split("\t"), "", ""]
        if name in index:
            test.append((root / "val" / "images" / file, index[name]))
        elif name not in found.unused:
            raise InputError(f"{annotations}: the line {row!r} names no class folder of {folder}")
    if not test:
        raise InputError(f"{annotations} names no image")
    return {
        "train": Listing(folder, found, tuple(train)),
        "test": Listing(root / "val", found, tuple(test)),
    }


def image_folder_fingerprint(root: str, chosen: Any = AUTO, hint: str = "", store: str = "") -> str:
    """SHA-256 of all that ``image_folder`` lists: names of classes, and names and contents of images.

    Args:
        root: The folder; where it lies does not count.
        chosen: ``dataset.classes``; what it does not name is not read.
        hint: What to do where the folder is missing, for the message.
        store: Remembers the digests of files, where it exists; "" for none.

    Raises:
        InputError: Where there is no such folder, or an image cannot be read.
    """
    return _fingerprint(root, chosen, hint, store, image_folder)


def tiny_imagenet_fingerprint(root: str, chosen: Any = AUTO, hint: str = "", store: str = "") -> str:
    """The same of what ``tiny_imagenet`` lists; the annotations count by the labels that they give."""
    return _fingerprint(root, chosen, hint, store, tiny_imagenet)


def _fingerprint(
    root: str, chosen: Any, hint: str, store: str, listed: Callable[[Path, Any], Mapping[str, Listing]]
) -> str:
    folder = Path(root)
    if not folder.is_dir():
        raise InputError(f"there is no folder {root}" + (f"; {hint}" if hint else ""))
    parts = listed(folder, chosen)
    files = [file for part in parts.values() for file in part.files]
    with remembered(store, folder) if store else nullcontext():
        digests = for_all(lambda path: file_digest(str(path)), [path for path, _ in files])
    names = [[name, *part.classes.names] for name, part in parts.items()]
    # JSON, because a name may hold any character.
    rows = [
        [str(path).removeprefix(f"{folder}{os.sep}").replace(os.sep, "/"), label, digest]
        for (path, label), digest in zip(files, digests, strict=True)
    ]
    return hashlib.sha256(json.dumps([names, rows]).encode()).hexdigest()


def for_all(function: Callable[[S], T], files: Sequence[S]) -> list[T]:
    """A function of each file, in parallel.

    Raises:
        InputError: Where the function raises it: the number of these files and the first of their errors, one line.
    """

    def tried(file: S) -> T | InputError:
        try:
            return function(file)
        except InputError as error:
            return error

    # In portions: handing over a file of its own costs more than to read a small one.
    portions = [files[begin : begin + PORTION] for begin in range(0, len(files), PORTION)]
    with ThreadPoolExecutor() as pool:
        found = [
            result for part in pool.map(lambda portion: [tried(path) for path in portion], portions) for result in part
        ]
    results = [result for result in found if not isinstance(result, InputError)]
    errors = [str(result) for result in found if isinstance(result, InputError)]
    if errors:
        count = f"{len(errors)} files cannot be used: " if len(errors) > 1 else ""
        raise InputError(count + first(errors, "; "))
    return results


def first(names: Sequence[str], between: str) -> str:
    """The first few of many names, and how many more there are."""
    rest = len(names) - MOST_NAMED
    return between.join([*names[:MOST_NAMED], *([f"{rest} more"] if rest > 0 else [])])


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """Files and folders in the order of their names, without what is hidden and litter."""
    with os.scandir(folder) as entries:
        kept = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in LITTER]
    return sorted(kept, key=lambda entry: entry.name)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """A folder, or a link to one."""
    # Not entry.is_dir(): it fails for a link to itself.
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def is_image(name: str) -> bool:
    """Whether a file is decoded, by its name."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def images(folder: Path) -> list[Path]:
    """The files of a folder that are decoded, in order."""
    return [folder / entry.name for entry in entries(folder) if is_image(entry.name) and not is_folder(entry)]


def _in_order(names: Sequence[str]) -> tuple[str, ...]:
    numbered = all(name.isascii() and name.isdigit() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name) if numbered else (0, name)))

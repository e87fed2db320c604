"""Which images a folder holds, without reading one: the decoder's list, and the fingerprint of the same files."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mcr.digests import file_digest, remembered
from mcr.errors import InputError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".webp", ".tif", ".tiff"})
# What desktops and archivers leave behind, hidden files apart.
LITTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
PORTION = 64  # files that a thread takes at once
MOST_NAMED = 3  # files or errors in one line
T = TypeVar("T")


@dataclass(frozen=True)
class Listing:
    """The images of one part of a data set.

    Attributes:
        folder: Where the part lies.
        classes: Names, in the order of the labels.
        files: Each image and the number of its class, in the order in which they are decoded.
    """

    folder: Path
    classes: tuple[str, ...]
    files: tuple[tuple[Path, int], ...]

    def check(self) -> None:
        """Raises InputError where there are fewer than two classes, or some have no image."""
        if len(self.classes) < 2:
            raise InputError(f"{self.folder} has {len(self.classes)} class folders; at least two are needed")
        filled = {label for _, label in self.files}
        empty = [str(self.folder / name) for label, name in enumerate(self.classes) if label not in filled]
        if empty:
            nor = f", nor does {_first(empty[1:], ', ')}" if len(empty) > 1 else ""
            raise InputError(f"{empty[0]} holds no image ({', '.join(sorted(SUFFIXES))}){nor}")


def image_folder(root: Path) -> dict[str, Listing]:
    """Parts "train" and "test" where there are folders of these names, else the part "all".

    Classes are the folders of a part: in the order of their values where all are whole numbers (2 before 10), else
    in the order of their names, as torchvision's. Linked folders and files are read through; hidden ones and litter
    are left out, and so is all that lies deeper.
    """
    parts = {name: root / name for name in ("train", "test") if (root / name).is_dir()} or {"all": root}
    return {name: _class_folders(folder) for name, folder in parts.items()}


def _class_folders(folder: Path) -> Listing:
    classes = _in_order([entry.name for entry in _entries(folder) if _is_folder(entry)])
    files = [(path, label) for label, name in enumerate(classes) for path in _images(folder / name)]
    return Listing(folder, classes, tuple(files))


def tiny_imagenet(root: Path) -> dict[str, Listing]:
    """Parts "train" (train/CLASS/images/*) and "test" (val/images/*, labelled by val_annotations.txt).

    Raises:
        InputError: Where the files are missing, or a label names no class.
    """
    annotations = root / "val" / "val_annotations.txt"
    if not annotations.is_file() or not (root / "train").is_dir():
        raise InputError(f"there is no {annotations}, or no train: is {root} the unpacked tiny-imagenet-200?")
    classes = _in_order([entry.name for entry in _entries(root / "train") if _is_folder(entry)])
    index = {name: label for label, name in enumerate(classes)}
    train = [(path, index[name]) for name in classes for path in _images(root / "train" / name / "images")]
    test = []
    for row in annotations.read_text(encoding="utf-8").splitlines():
        if not row:
            continue
        file, name, *_ = [*row.split("\t"), "", ""]
        if name not in index:
            raise InputError(f"{annotations}: the line {row!r} names no class folder of {root / 'train'}")
        test.append((root / "val" / "images" / file, index[name]))
    if not test:
        raise InputError(f"{annotations} names no image")
    return {
        "train": Listing(root / "train", classes, tuple(train)),
        "test": Listing(root / "val", classes, tuple(test)),
    }


def image_folder_fingerprint(root: str, hint: str = "", store: str = "") -> str:
    """SHA-256 of all that ``image_folder`` lists: names of classes, and names and contents of images.

    Args:
        root: The folder; where it lies does not count.
        hint: What to do where it is missing, for the message.
        store: Remembers the digests of files, where it exists; "" for none.

    Raises:
        InputError: Where there is no such folder, or an image cannot be read.
    """
    return _fingerprint(root, hint, store, image_folder)


def tiny_imagenet_fingerprint(root: str, hint: str = "", store: str = "") -> str:
    """The same of what ``tiny_imagenet`` lists; the annotations count by the labels that they give."""
    return _fingerprint(root, hint, store, tiny_imagenet)


def _fingerprint(root: str, hint: str, store: str, listed: Callable[[Path], Mapping[str, Listing]]) -> str:
    folder = Path(root)
    if not folder.is_dir():
        raise InputError(f"there is no folder {root}" + (f"; {hint}" if hint else ""))
    parts = listed(folder)
    files = [file for part in parts.values() for file in part.files]
    with remembered(store, folder) if store else nullcontext():
        digests = for_all(lambda path: file_digest(str(path)), [path for path, _ in files])
    classes = [[name, *part.classes] for name, part in parts.items()]
    # JSON, because a name may hold any character.
    rows = [
        [str(path).removeprefix(f"{folder}{os.sep}").replace(os.sep, "/"), label, digest]
        for (path, label), digest in zip(files, digests, strict=True)
    ]
    return hashlib.sha256(json.dumps([classes, rows]).encode()).hexdigest()


def for_all(function: Callable[[Path], T], files: Sequence[Path]) -> list[T]:
    """A function of each file, in parallel.

    Raises:
        InputError: Where the function raises it: the number of these files and the first of their errors, one line.
    """

    def tried(path: Path) -> T | InputError:
        try:
            return function(path)
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
        raise InputError(count + _first(errors, "; "))
    return results


def left_out(root: Path) -> str:
    """What lies below a folder of images and is not decoded, counted and named; empty where nothing does."""
    parts = image_folder(root)
    loose, deeper, other = 0, dict[str, int](), Counter[str]()
    beside = [] if "all" in parts else [entry for entry in _entries(root) if entry.name not in parts]
    for entry in filter(_is_folder, beside):
        deeper[entry.name] = _count(Path(entry.path), root)
    for part in parts.values():
        loose += len(_images(part.folder))
        for place in (part.folder / name for name in part.classes):
            for entry in _entries(place):
                if _is_folder(entry):
                    path = Path(entry.path)
                    deeper[path.relative_to(root).as_posix()] = _count(path, place)
                elif not _is_image(entry.name):
                    other[Path(entry.name).suffix or entry.name] += 1
    folders = [name for name, count in deeper.items() if count]
    notes = [
        f"{sum(deeper.values())} images in {_first([f'{name}/' for name in folders], ', ')}" if folders else "",
        f"{loose} images in no class folder" if loose else "",
        f"{other.total()} other files ({_first([f'{n} {kind}' for kind, n in sorted(other.items())], ', ')})"
        if other
        else "",
    ]
    return "; ".join(note for note in notes if note)


def _first(names: Sequence[str], between: str) -> str:
    rest = len(names) - MOST_NAMED
    return between.join([*names[:MOST_NAMED], *([f"{rest} more"] if rest > 0 else [])])


def _count(folder: Path, above: Path) -> int:
    """Images anywhere below a folder, unless it is a link back to where we come from."""
    if above.resolve().is_relative_to(folder.resolve()):
        return 0
    return sum(_is_image(name) for _, _, names in os.walk(folder) for name in names)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Files and folders in the order of their names, without what is hidden and litter."""
    with os.scandir(folder) as entries:
        kept = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in LITTER]
    return sorted(kept, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # Not entry.is_dir(): it fails for a link to itself.
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def _is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def _images(folder: Path) -> list[Path]:
    return [folder / entry.name for entry in _entries(folder) if _is_image(entry.name) and not _is_folder(entry)]


def _in_order(names: Sequence[str]) -> tuple[str, ...]:
    numbered = all(name.isascii() and name.isdigit() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name) if numbered else (0, name)))

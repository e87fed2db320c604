"""What lies in a folder of images and is not decoded."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from mcr.datasets.folder import Listing, entries, first, images, is_folder, is_image


def left_out(root: Path, parts: Mapping[str, Listing]) -> str:
    """What is left out, counted and named; empty where nothing is.

    Args:
        root: The whole folder.
        parts: What is decoded of it.
    """
    loose, deeper, other = 0, dict[str, int](), Counter[str]()
    unnamed = dict[str, int]()
    places = {part.folder for part in parts.values()}
    if root not in places:
        loose = len(images(root))
        for entry in entries(root):
            if is_folder(entry) and Path(entry.path) not in places:
                deeper[entry.name] = _count(Path(entry.path), root)
    for part in parts.values():
        loose += len(images(part.folder))
        for name in part.classes.unused:
            unnamed[name] = unnamed.get(name, 0) + _count(part.folder / name, part.folder)
        for place in (part.folder / name for name in part.classes.index):
            for entry in entries(place):
                if is_folder(entry):
                    path = Path(entry.path)
                    deeper[path.relative_to(root).as_posix()] = _count(path, place)
                elif not is_image(entry.name):
                    other[Path(entry.name).suffix or entry.name] += 1
    folders = [f"{name}/" for name, count in deeper.items() if count]
    kinds = first([f"{count} {kind}" for kind, count in sorted(other.items())], ", ")
    notes = [
        f"{sum(deeper.values())} images in {first(folders, ', ')}" if folders else "",
        f"{loose} images in no class folder" if loose else "",
        f"{sum(unnamed.values())} images of {first(list(unnamed), ', ')}, which dataset.classes does not name"
        if unnamed
        else "",
        f"{other.total()} other files ({kinds})" if other else "",
    ]
    return "; ".join(note for note in notes if note)


def _count(folder: Path, above: Path) -> int:
    """Images anywhere below a folder, unless it is a link back to where we come from."""
    if above.resolve().is_relative_to(folder.resolve()):
        return 0
    return sum(is_image(name) for _, _, names in os.walk(folder) for name in names)

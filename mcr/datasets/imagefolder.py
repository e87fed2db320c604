"""A folder of class folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mcr.datasets import folder
from mcr.datasets.decoding import MODES, ORIENTATIONS, Decoder
from mcr.datasets.folder import Listing
from mcr.datasets.left_out import left_out
from mcr.errors import InputError
from mcr.types import LabelledImages, RawDataset


@dataclass(frozen=True)
class ImageFolder:
    """``root/train/CLASS/*`` and ``root/test/CLASS/*``, or ``root/CLASS/*`` to be split.

    Classes are numbered in the order of their folders' names, as torchvision numbers them; where all names are whole
    numbers, in the order of these: 2 before 10. A list gives another order.

    Attributes:
        root: The folder.
        channels: 3 for colour, 1 for grey.
        image_size: "native" where all images have one size, or the side of the square to resize to.
        classes: "auto", or the folders in the order of the network's outputs, see ``mcr.datasets.classes``.
        orientation: Whether a photo's EXIF orientation is "ignored", as by torchvision, or "applied".
        fingerprint: Digest of the listed classes and images: it makes the stored pixels follow the folder.
    """

    root: str
    channels: int
    image_size: int | str
    classes: Any
    orientation: str
    fingerprint: str

    def __post_init__(self) -> None:
        if self.channels not in MODES:
            raise InputError(f"dataset.channels={self.channels}: 3 for colour or 1 for grey")
        if self.image_size != "native" and (not isinstance(self.image_size, int) or self.image_size < 1):
            raise InputError(f"dataset.image_size={self.image_size}: native, or a number of pixels")
        if self.orientation not in ORIENTATIONS:
            raise InputError(f"dataset.orientation={self.orientation}: {' or '.join(ORIENTATIONS)}")

    def load(self) -> RawDataset:
        """Decode every image once. Raises InputError naming the files or the folder that is wrong."""
        root = Path(self.root)
        parts = folder.image_folder(root, self.classes)
        first = next(iter(parts.values()))
        for part in parts.values():
            for name in sorted(part.classes.index.keys() ^ first.classes.index.keys()):
                raise InputError(f"{part.folder} and {first.folder} differ in the class folder {name}")
            part.check()
        unread = left_out(root, parts)
        decoder = Decoder(self.channels, self.image_size, self.orientation)
        found, said = decode(parts, decoder)
        notes = [f"left out: {unread}"] if unread else []
        return RawDataset(found, first.classes.names, (*notes, *_alone(parts), *said))


def decode(parts: Mapping[str, Listing], decoder: Decoder) -> tuple[dict[str, LabelledImages], list[str]]:
    """The listed images and their labels by part, and what is to be said of the files.

    Raises:
        InputError: Naming the unreadable files of all parts, or one of another size than the first.
    """
    images, notes = decoder.decode({name: [path for path, _ in part.files] for name, part in parts.items()})
    labels = {name: torch.tensor([label for _, label in part.files]) for name, part in parts.items()}
    return {name: LabelledImages(images[name], labels[name]) for name in parts}, notes


def _alone(parts: Mapping[str, Listing]) -> list[str]:
    """A line for each part that has classes of a single image: they are trained on or tested, not both."""
    found = []
    for part in parts.values():
        counts = Counter(label for _, label in part.files)
        names = [name for label, name in enumerate(part.classes.names) if counts[label] == 1]
        if names:
            found.append(f"a single image of {folder.first(names, ', ')} in {part.folder.name}/")
    return found

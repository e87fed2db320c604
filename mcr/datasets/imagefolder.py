"""A folder of class folders."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from mcr.datasets import folder
from mcr.datasets.folder import Listing
from mcr.errors import InputError
from mcr.types import LabelledImages, RawDataset

MODES = {1: "L", 3: "RGB"}
log = logging.getLogger("mcr")


@dataclass(frozen=True)
class ImageFolder:
    """``root/train/CLASS/*`` and ``root/test/CLASS/*``, or ``root/CLASS/*`` to be split.

    Classes are numbered in the order of their folders' names, as torchvision numbers them; where all names are whole
    numbers, in the order of these: 2 before 10.

    Attributes:
        root: The folder.
        channels: 3 for colour, 1 for grey.
        image_size: "native" where all images have one size, or the side of the square to resize to.
        fingerprint: Digest of the listed classes and images: it makes the stored pixels follow the folder.
    """

    root: str
    channels: int
    image_size: int | str
    fingerprint: str

    def __post_init__(self) -> None:
        if self.channels not in MODES:
            raise InputError(f"dataset.channels={self.channels}: 3 for colour or 1 for grey")
        if self.image_size != "native" and (not isinstance(self.image_size, int) or self.image_size < 1):
            raise InputError(f"dataset.image_size={self.image_size}: native, or a number of pixels")

    def load(self) -> RawDataset:
        """Decode every image once. Raises InputError naming the files or the folder that is wrong."""
        root = Path(self.root)
        parts = folder.image_folder(root)
        if len(parts) == 1 and "all" not in parts:
            raise InputError(f"{root} has a folder {next(iter(parts))} but not the other of train/ and test/")
        first = next(iter(parts.values()))
        for part in parts.values():
            for name in sorted(set(part.classes) ^ set(first.classes)):
                raise InputError(f"{part.folder} and {first.folder} differ in the class folder {name}")
            part.check()
        unread = folder.left_out(root)
        if unread:
            log.warning("  %-22s left out: %s", "data", unread)
        return RawDataset(self.decode(parts), first.classes)

    def decode(self, parts: Mapping[str, Listing]) -> dict[str, LabelledImages]:
        """The listed images and their labels, by part.

        Raises:
            InputError: Naming the unreadable files of all parts, or one of another size than the first.
        """
        files = [path for part in parts.values() for path, _ in part.files]
        arrays = folder.for_all(self._read, files)
        for path, array in zip(files, arrays, strict=True):
            if array.shape != arrays[0].shape:
                sizes = [f"{shape[1]}x{shape[0]}" for shape in (array.shape, arrays[0].shape)]
                raise InputError(f"{path} is {sizes[0]}, {files[0]} is {sizes[1]}: give dataset.image_size=SIDE")
        found, begin = {}, 0
        for name, part in parts.items():
            pixels = torch.from_numpy(np.stack(arrays[begin : begin + len(part.files)]))
            labels = torch.tensor([label for _, label in part.files])
            found[name] = LabelledImages(pixels.permute(0, 3, 1, 2).contiguous(), labels)
            begin += len(part.files)
        return found

    def _read(self, path: Path) -> np.ndarray:
        try:
            with Image.open(path) as image:
                if image.mode.startswith(("I", "F")):
                    raise ValueError(f"its pixels are {image.mode}, not 8 bits; convert it first")
                converted = image.convert(MODES[self.channels])
                if self.image_size != "native":
                    side = int(self.image_size)
                    converted = converted.resize((side, side), Image.Resampling.BILINEAR)
                array = np.asarray(converted)
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(f"{path} is no readable image: {error}") from None
        return array[:, :, None] if array.ndim == 2 else array

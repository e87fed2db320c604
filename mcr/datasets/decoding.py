"""From image files to pixels."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from mcr.datasets.folder import first as first_of
from mcr.datasets.folder import for_all
from mcr.errors import InputError

MODES = {1: "L", 3: "RGB"}
ORIENTATIONS = ("ignored", "applied")
TURNED = range(2, 9)  # EXIF's numbers of orientations in which an image is not stored as it is seen
LARGE = 128  # side above which an image is large for the networks that are compared here
log = logging.getLogger("mcr")


@dataclass(frozen=True)
class Decoder:
    """Reads images of one size.

    Attributes:
        channels: D: 3 for colour, 1 for grey.
        image_size: "native", or the side of the square to resize to.
        orientation: Whether an EXIF orientation is "ignored" or "applied".
    """

    channels: int
    image_size: int | str
    orientation: str

    def decode(self, parts: Mapping[str, Sequence[Path]]) -> tuple[dict[str, Tensor], list[str]]:
        """Part to pixels, uint8 (N, D, H, W), and what is to be said of the files, one line each.

        Each image is written to its place at once: a large folder is held in memory one time.

        Raises:
            InputError: Naming the unreadable files of all parts, or one of another size than the first.
        """
        files = [(name, index, path) for name, paths in parts.items() for index, path in enumerate(paths)]
        _, _, first = files[0]
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")  # Pillow's, which would go to the terminal and name no file
            try:
                height, width = self.read(first)[0].shape[1:]
            except InputError:
                height = width = 0  # told with all others below
            shape = (self.channels, height, width)
            _announce(len(files), shape)
            found = {name: np.empty((len(paths), *shape), np.uint8) for name, paths in parts.items()}

            def place(file: tuple[str, int, Path]) -> tuple[tuple[int, int], bool]:
                name, index, path = file
                pixels, turned = self.read(path)
                if pixels.shape[1:] == (height, width):
                    found[name][index] = pixels
                return (pixels.shape[2], pixels.shape[1]), turned

            seen = for_all(place, files)
        for (_, _, path), (size, _) in zip(files, seen, strict=True):
            if size != (width, height):
                sizes = [f"{side[0]}x{side[1]}" for side in (size, (width, height))]
                raise InputError(f"{path} is {sizes[0]}, {first} is {sizes[1]}: give dataset.image_size=SIDE")
        texts = list(dict.fromkeys(str(one.message) for one in said))
        notes = [f"Pillow warns: {first_of(texts, '; ')}"] if texts else []
        count = sum(turned for _, turned in seen)
        if count and self.orientation == "ignored":
            notes.append(
                f"{count} images carry an EXIF orientation, which is ignored as torchvision does: "
                "dataset.orientation=applied turns them upright"
            )
        return {name: torch.from_numpy(pixels) for name, pixels in found.items()}, notes

    def read(self, path: Path) -> tuple[np.ndarray, bool]:
        """Pixels (D, H, W) of a file, and whether its EXIF data say that it is to be turned."""
        try:
            with Image.open(path) as image:
                image.load()
                if image.mode.startswith(("I", "F")):
                    raise ValueError(f"its pixels are {image.mode}, not 8 bits; convert it first")
                turned = image.getexif().get(ExifTags.Base.Orientation) in TURNED
                # Transparency is dropped, and Pillow warns where it is that of a palette.
                image.info.pop("transparency", None)
                upright = ImageOps.exif_transpose(image) if turned and self.orientation == "applied" else image
                converted = upright.convert(MODES[self.channels])
                if self.image_size != "native":
                    side = int(self.image_size)
                    converted = converted.resize((side, side), Image.Resampling.BILINEAR)
                array = np.asarray(converted)
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(f"{path} is no readable image: {error}") from None
        return (array[None] if array.ndim == 2 else array.transpose(2, 0, 1)), turned


def _announce(count: int, shape: tuple[int, int, int]) -> None:
    """What is ahead, where it is much: bytes of memory, and pixels of an image."""
    _, height, width = shape
    smaller = "dataset.image_size=SIDE makes them smaller"
    if max(height, width) > LARGE:
        text = "%d images of %dx%d: each takes a network %.0f times the memory and time of one of 32x32; %s"
        log.info("  %-22s " + text, "data", count, width, height, height * width / 32**2, smaller)
    needed, memory = count * int(np.prod(shape)), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory / 2:
        text = "the decoded images take %.1f GB, this machine has %.1f GB of memory; %s"
        log.warning("  %-22s " + text, "data", needed / 1e9, memory / 1e9, smaller)

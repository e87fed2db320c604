"""A folder of class folders."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from mcr.errors import InputError
from mcr.types import Part, Source

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".webp", ".tif", ".tiff"})
MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class ImageFolder:
    """``root/train/CLASS/*`` and ``root/test/CLASS/*``, or ``root/CLASS/*`` to be split.

    Attributes:
        root: The folder.
        channels: 3 for colour, 1 for grey.
        image_size: "native" where all images have one size, or the side of the square to resize to.
        fingerprint: Digest of the folder's listing: it makes the stored pixels follow the folder.
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

    def load(self) -> Source:
        """Decode every image once. Raises InputError naming the file or folder that is wrong."""
        root = Path(self.root)
        folders = {name: root / name for name in ("train", "test") if (root / name).is_dir()}
        if set(folders) == {"train"} or set(folders) == {"test"}:
            raise InputError(f"{root} has a folder {'/'.join(folders)} but not the other of train/ and test/")
        parts = folders or {"all": root}
        classes = _class_names(next(iter(parts.values())))
        for folder in parts.values():
            found = _class_names(folder)
            if found != classes:
                odd = sorted(set(found) ^ set(classes))[0]
                raise InputError(f"{folder} and {next(iter(parts.values()))} differ in the class folder {odd}")
        return Source({name: self._part(folder, classes) for name, folder in parts.items()}, tuple(classes))

    def _part(self, folder: Path, classes: list[str]) -> Part:
        files = [(path, label) for label, name in enumerate(classes) for path in _images(folder / name)]
        return Part(self.decode([path for path, _ in files]), torch.tensor([label for _, label in files]))

    def decode(self, files: list[Path]) -> torch.Tensor:
        """Images uint8 (N, D, H, W) of the files. Raises InputError naming an unreadable file or an odd size."""
        with ThreadPoolExecutor() as pool:
            arrays = list(pool.map(self._read, files))
        for path, array in zip(files, arrays, strict=True):
            if array.shape != arrays[0].shape:
                sizes = [f"{shape[1]}x{shape[0]}" for shape in (array.shape, arrays[0].shape)]
                raise InputError(f"{path} is {sizes[0]}, {files[0]} is {sizes[1]}: give dataset.image_size=SIDE")
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()

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


def _class_names(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(names) < 2:
        raise InputError(f"{folder} has {len(names)} class folders; at least two are needed")
    return names


def _images(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"{folder} holds no image ({', '.join(sorted(SUFFIXES))})")
    return files

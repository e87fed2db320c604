"""Tiny ImageNet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from mcr.datasets.imagefolder import ImageFolder
from mcr.errors import InputError
from mcr.types import Part, Source


@dataclass(frozen=True)
class TinyImageNet:
    """110,000 colour images 64x64 in 200 classes: train/CLASS/images/* and val/images/* with val_annotations.txt."""

    root: str
    fingerprint: str

    def load(self) -> Source:
        """Parts "train" and "test" (the labelled val folder). Raises InputError where the files are missing."""
        root = Path(self.root)
        annotations = root / "val" / "val_annotations.txt"
        if not annotations.is_file():
            raise InputError(f"there is no {annotations}: is {root} the unpacked tiny-imagenet-200?")
        reader = ImageFolder(self.root, 3, "native", self.fingerprint)
        classes = sorted(path.name for path in (root / "train").iterdir() if path.is_dir())
        index = {name: label for label, name in enumerate(classes)}
        train = [(path, index[name]) for name in classes for path in sorted((root / "train" / name).rglob("*.JPEG"))]
        rows = [line.split("\t")[:2] for line in annotations.read_text().splitlines() if line]
        test = [(root / "val" / "images" / file, index[name]) for file, name in rows]
        parts = {}
        for part, files in (("train", train), ("test", test)):
            images = reader.decode([path for path, _ in files])
            parts[part] = Part(images, torch.tensor([label for _, label in files]))
        return Source(parts, tuple(classes))

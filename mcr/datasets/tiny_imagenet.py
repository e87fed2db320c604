"""Tiny ImageNet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mcr.datasets import folder
from mcr.datasets.imagefolder import ImageFolder
from mcr.types import RawDataset


@dataclass(frozen=True)
class TinyImageNet:
    """110,000 colour images 64x64 in 200 classes: train/CLASS/images/* and val/images/* with val_annotations.txt."""

    root: str
    fingerprint: str

    def load(self) -> RawDataset:
        """Parts "train" and "test" (the labelled val folder). Raises InputError where the files are missing."""
        parts = folder.tiny_imagenet(Path(self.root))
        parts["train"].check()
        reader = ImageFolder(self.root, 3, "native", self.fingerprint)
        return RawDataset(reader.decode(parts), parts["train"].classes)

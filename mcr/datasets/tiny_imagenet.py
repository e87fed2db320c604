"""Tiny ImageNet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcr.datasets import folder
from mcr.datasets.decoding import Decoder
from mcr.datasets.imagefolder import decode
from mcr.types import RawDataset


@dataclass(frozen=True)
class TinyImageNet:
    """110,000 colour images 64x64 in 200 classes: train/CLASS/images/* and val/images/* with val_annotations.txt.

    Attributes:
        root: The folder.
        classes: "auto", or the folders in the order of the network's outputs, see ``mcr.datasets.classes``.
        fingerprint: Digest of the listed classes and images.
    """

    root: str
    classes: Any
    fingerprint: str

    def load(self) -> RawDataset:
        """Parts "train" and "test" (the labelled val folder). Raises InputError where the files are missing."""
        parts = folder.tiny_imagenet(Path(self.root), self.classes)
        parts["train"].check()
        found, notes = decode(parts, Decoder(3, "native", "ignored"))
        classes = parts["train"].classes
        if classes.unused:
            notes.append(f"left out: {folder.first(classes.unused, ', ')}, which dataset.classes does not name")
        return RawDataset(found, classes.names, tuple(notes))

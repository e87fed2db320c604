"""CIFAR-100."""

from __future__ import annotations

from dataclasses import dataclass

import torchvision

from mcr.datasets.torchvision_source import load_parts
from mcr.types import RawDataset


@dataclass(frozen=True)
class Cifar100:
    """60,000 colour images 32x32 in 100 classes (Krizhevsky 2009), read by torchvision."""

    root: str

    def load(self) -> RawDataset:
        """Parts "train" and "test"."""
        parts = {"train": {"train": True}, "test": {"train": False}}
        classes = tuple(map(str, range(100)))
        return load_parts("CIFAR100", self.root, parts, torchvision.datasets.CIFAR100, classes)

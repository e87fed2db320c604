"""CIFAR-10."""

from __future__ import annotations

from dataclasses import dataclass

import torchvision

from mcr.datasets.torchvision_source import load_parts
from mcr.types import RawDataset


@dataclass(frozen=True)
class Cifar10:
    """60,000 colour images 32x32 in 10 classes (Krizhevsky 2009), read by torchvision."""

    root: str

    def load(self) -> RawDataset:
        """Parts "train" and "test"."""
        parts = {"train": {"train": True}, "test": {"train": False}}
        classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
        return load_parts("CIFAR10", self.root, parts, torchvision.datasets.CIFAR10, classes)

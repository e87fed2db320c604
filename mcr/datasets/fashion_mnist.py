"""Fashion-MNIST."""

from __future__ import annotations

from dataclasses import dataclass

import torchvision

from mcr.datasets.torchvision_source import load_parts
from mcr.types import RawDataset


@dataclass(frozen=True)
class FashionMnist:
    """70,000 grey garments 28x28 (Xiao et al. 2017), read by torchvision."""

    root: str

    def load(self) -> RawDataset:
        """Parts "train" and "test"."""
        parts = {"train": {"train": True}, "test": {"train": False}}
        classes = ("top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
        return load_parts("FashionMNIST", self.root, parts, torchvision.datasets.FashionMNIST, classes)

"""MNIST."""

from __future__ import annotations

from dataclasses import dataclass

import torchvision

from mcr.datasets.torchvision_source import load_parts
from mcr.types import RawDataset


@dataclass(frozen=True)
class Mnist:
    """70,000 grey digits 28x28 (LeCun et al. 1998), read by torchvision."""

    root: str

    def load(self) -> RawDataset:
        """Parts "train" and "test"."""
        parts = {"train": {"train": True}, "test": {"train": False}}
        classes = tuple("0123456789")
        return load_parts("MNIST", self.root, parts, torchvision.datasets.MNIST, classes)

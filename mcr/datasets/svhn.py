"""Street View House Numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torchvision

from mcr.datasets.torchvision_source import load_parts
from mcr.types import RawDataset


@dataclass(frozen=True)
class Svhn:
    """99,289 colour digits 32x32 (Netzer et al. 2011), read by torchvision."""

    root: str

    def load(self) -> RawDataset:
        """Parts "train" and "test"."""
        parts = {"train": {"split": "train"}, "test": {"split": "test"}}
        classes = tuple("0123456789")
        return load_parts("SVHN", self.root, parts, torchvision.datasets.SVHN, classes)

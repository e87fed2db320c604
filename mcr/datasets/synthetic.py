"""Generated images for trials and tests."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import interpolate

from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.types import LabelledImages, RawDataset


@dataclass(frozen=True)
class Synthetic:
    """One smooth random image per class, plus pixel noise.

    Attributes:
        images: Number of images, spread evenly over the classes.
        noise: Standard deviation of the noise, in [0, 1] units.
    """

    images: int
    classes: int
    channels: int
    image_size: int
    noise: float
    seed: int

    def __post_init__(self) -> None:
        least = {"images": 1, "classes": 2, "channels": 1, "image_size": 1, "noise": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise InputError(f"dataset.{name}={getattr(self, name)} must be at least {value}")

    def load(self) -> RawDataset:
        """One part, "all"."""
        draw = generator(self.seed, "synthetic")
        coarse = torch.rand(self.classes, self.channels, 4, 4, generator=draw)
        size = (self.image_size, self.image_size)
        prototypes = interpolate(coarse, size=size, mode="bilinear", align_corners=False)
        labels = torch.arange(self.images) % self.classes
        noise = torch.randn(self.images, self.channels, *size, generator=draw) * self.noise
        images = (prototypes[labels] + noise).clamp(0, 1).mul(255).round().to(torch.uint8)
        return RawDataset({"all": LabelledImages(images, labels)}, tuple(map(str, range(self.classes))))

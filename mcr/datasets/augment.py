"""Random crop and flip on a whole batch of uint8 images, one decision per image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from mcr.errors import InputError


@dataclass(frozen=True)
class Augmentation:
    """Zero padding with a random crop back to the size, and a random horizontal flip.

    torchvision's batch transforms draw one decision for the whole batch, hence this.

    Attributes:
        padding: Pixels of zeros on each side; 0 crops nothing.
        flip: Probability of a horizontal flip.
    """

    padding: int
    flip: float

    def __post_init__(self) -> None:
        if self.padding < 0 or not 0 <= self.flip <= 1:
            raise InputError(f"dataset.augmentation: padding {self.padding} >= 0 and 0 <= flip {self.flip} <= 1 needed")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augmented copies: uint8 (B, D, H, W) to the same."""
        return self.apply(images, self.draw(len(images), generator).to(images.device))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """A decision for each image: row and column of its window, and 1 where it is flipped; int64 (3, B).

        Drawn on the CPU, so that every device sees the same.
        """
        offsets, flipped = torch.zeros(2, count, dtype=torch.int64), torch.zeros(1, count, dtype=torch.int64)
        if self.padding:
            offsets = torch.randint(0, 2 * self.padding + 1, (2, count), generator=generator)
        if self.flip:
            flipped = (torch.rand(1, count, generator=generator) < self.flip).long()
        return torch.cat([offsets, flipped])

    def apply(self, images: Tensor, decisions: Tensor) -> Tensor:
        """Augmented copies: uint8 (B, D, H, W) to the same.

        Args:
            images: uint8 (B, D, H, W).
            decisions: int64 (3, B), on the images' device.
        """
        if self.padding:
            images = self._crop(images, decisions[:2])
        if self.flip:
            images = torch.where(decisions[2].bool()[:, None, None, None], images.flip(-1), images)
        return images

    def _crop(self, images: Tensor, offsets: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        # A strided view of all windows costs nothing; indexing it copies one window per image.
        windows = pad(images, (self.padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
        return windows[torch.arange(len(images), device=images.device), :, offsets[0], offsets[1]]


def to_unit(images: Tensor, memory_format: str) -> Tensor:
    """uint8 (B, D, H, W) to float32 in [0, 1], in the network's memory format."""
    order = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    return images.to(torch.float32, memory_format=order).div_(255)

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
        """Augmented copies: uint8 (B, D, H, W) to the same; draws on the CPU, so every device sees the same."""
        if self.padding:
            images = self._crop(images, generator)
        if self.flip:
            flipped = torch.rand(len(images), generator=generator) < self.flip
            images = torch.where(flipped.to(images.device)[:, None, None, None], images.flip(-1), images)
        return images

    def _crop(self, images: Tensor, generator: torch.Generator) -> Tensor:
        height, width = images.shape[-2:]
        offsets = torch.randint(0, 2 * self.padding + 1, (2, len(images)), generator=generator).to(images.device)
        # A strided view of all windows costs nothing; indexing it copies one window per image.
        windows = pad(images, (self.padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
        return windows[torch.arange(len(images), device=images.device), :, offsets[0], offsets[1]]


def to_unit(images: Tensor, memory_format: str) -> Tensor:
    """uint8 (B, D, H, W) to float32 in [0, 1], in the network's memory format."""
    order = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    return images.to(torch.float32, memory_format=order).div_(255)

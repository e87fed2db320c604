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
        """Augmented copies: images (B, D, H, W), uint8 or float, to the same."""
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
        """Augmented copies: images (B, D, H, W) to the same.

        Args:
            images: uint8 (B, D, H, W), or float.
            decisions: int64 (3, B), on the images' device.
        """
        pixels = images.permute(0, 2, 3, 1)  # a row of an image is one piece of memory where it is channels_last
        if self.padding:
            pixels = self._crop(pixels, *decisions[:2])
        if self.flip and pixels.is_floating_point():
            pixels = torch.where(decisions[2].bool()[:, None, None, None], pixels.flip(2), pixels)
        elif self.flip:
            # The bits in which an image differs from its mirror image, where it is flipped: faster than a choice.
            mask = (decisions[2] * 255).to(torch.uint8)[:, None, None, None]
            pixels = pixels ^ ((pixels ^ pixels.flip(2)) & mask)
        return pixels.permute(0, 3, 1, 2)

    def _crop(self, pixels: Tensor, top: Tensor, left: Tensor) -> Tensor:
        """Windows (B, H, W, D) of the padded images, copied row by row."""
        count, height, width, channels = pixels.shape
        tall, wide = height + 2 * self.padding, width + 2 * self.padding
        padded = pad(pixels, (0, 0) + 2 * (self.padding, self.padding)).contiguous()
        number, row = (torch.arange(size, device=pixels.device) for size in (count, height))
        first = ((number * tall + top)[:, None] + row) * wide + left[:, None]  # pixel of each row of the window (B, H)
        # All stretches of a row's length, overlapping: a view that costs nothing.
        stretches = padded.as_strided((count * tall * wide - width + 1, width * channels), (channels, 1))
        return stretches.index_select(0, first.flatten()).view(count, height, width, channels)


def to_unit(images: Tensor, memory_format: str) -> Tensor:
    """Images (B, D, H, W) to float32 in [0, 1], in the network's memory format; floats lie there already."""
    order = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    unit = images.to(torch.float32, memory_format=order)
    return unit if images.is_floating_point() else unit.div_(255)

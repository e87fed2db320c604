"""The first layer: pixels in [0, 1] to normalised pixels, so that attacks can live in pixel space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mcr import passes
from mcr.errors import InputError


class Normalized(nn.Module):
    """A network behind (x - mean) / std per channel.

    The network keeps its own parameter names below ``network``, so its state dict can leave as it came.
    Mean and std are constants, not weights: they are no buffers of the state dict.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def __call__(self, images: Tensor) -> Tensor:
        """As torch has it; the passes are counted out here, where nothing is compiled."""
        passes.count(len(images))
        logits: Tensor = super().__call__(images)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1] (B, D, H, W) to logits (B, C)."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits


def from_dataset(statistics: tuple[list[float], list[float]]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel of the source's training images, in [0, 1] units."""
    return statistics


def fixed(
    mean: float | list[float], std: float | list[float], statistics: tuple[list[float], list[float]]
) -> tuple[list[float], list[float]]:
    """Constants from the configuration, spread over the data's channels. Raises InputError where they do not fit."""
    channels = len(statistics[0])
    spread = [value if isinstance(value, list) else [float(value)] * channels for value in (mean, std)]
    for name, values in zip(("mean", "std"), spread, strict=True):
        if len(values) != channels:
            raise InputError(f"normalization.{name} has {len(values)} values for {channels} channels")
    if min(spread[1]) <= 0:
        raise InputError(f"normalization.std={std}: must be above 0")
    return spread[0], spread[1]

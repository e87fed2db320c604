"""Fully connected network."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


class Mlp(nn.Module):
    """ReLU layers of the given widths on the flattened image."""

    def __init__(self, hidden: list[int], num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        widths = [in_channels * image_size[0] * image_size[1], *hidden]
        layers = [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU())]
        self.layers = nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """(B, D, H, W) to logits (B, C)."""
        logits: Tensor = self.layers(images)
        return logits

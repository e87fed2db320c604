"""A small VGG with BatchNorm, for CIFAR-sized work on a CPU."""

from __future__ import annotations

from torch import Tensor, nn


class SmallVgg(nn.Module):
    """Five 3x3 convolutions of widths w, w, 2w, 2w, 4w with BatchNorm, max-pools between, global average pooling."""

    def __init__(self, width: int, num_classes: int, in_channels: int) -> None:
        super().__init__()

        def block(inputs: int, outputs: int) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

        self.features = nn.Sequential(
            *block(in_channels, width),
            nn.MaxPool2d(2),
            *block(width, width),
            nn.MaxPool2d(2),
            *block(width, 2 * width),
            *block(2 * width, 2 * width),
            nn.MaxPool2d(2),
            *block(2 * width, 4 * width),
            nn.AdaptiveAvgPool2d(1),
        )
        self.classifier = nn.Linear(4 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, D, H, W) to logits (B, C)."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits

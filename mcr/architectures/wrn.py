"""Wide residual networks (Zagoruyko & Komodakis 2016)."""

from __future__ import annotations

from torch import Tensor, nn

from mcr.architectures.initial import he_normal_convolutions
from mcr.errors import InputError


class WideBlock(nn.Module):
    """BatchNorm - ReLU - conv3x3 - dropout - BatchNorm - ReLU - conv3x3; a projecting shortcut takes the first ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.activate = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
        )
        projects = stride > 1 or inputs != outputs
        self.projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if projects else None

    def forward(self, features: Tensor) -> Tensor:
        """(B, D, H, W) to (B, D', H', W')."""
        active = self.activate(features)
        shortcut = features if self.projection is None else self.projection(active)
        output: Tensor = shortcut + self.layers(active)
        return output


class WideResNet(nn.Module):
    """Three stages of widths 16k, 32k, 64k with (depth - 4) / 6 blocks each."""

    def __init__(self, depth: int, widen: int, dropout: float, num_classes: int, in_channels: int) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise InputError(f"wrn: depth={depth} must be 6n + 4")
        layers: list[nn.Module] = [nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)]
        channels = 16
        for stage, base in enumerate((16, 32, 64)):
            for index in range((depth - 4) // 6):
                stride = 2 if stage > 0 and index == 0 else 1
                layers.append(WideBlock(channels, base * widen, stride, dropout))
                channels = base * widen
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Linear(channels, num_classes)
        he_normal_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """(B, D, H, W) to logits (B, C)."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits

"""Pre-activation residual networks (He et al. 2016b) for 32x32 images."""

from __future__ import annotations

from torch import Tensor, nn

from mcr.architectures.initial import he_normal_convolutions
from mcr.errors import InputError

BOTTLENECK_FROM = 44  # depth from which Garipov et al. (2018) use bottleneck blocks


class Block(nn.Module):
    """BatchNorm - ReLU - convolution, for each of the given kernels, plus the shortcut."""

    def __init__(self, channels: tuple[int, ...], kernels: tuple[int, ...], stride: int, strided: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, kernel in enumerate(kernels):
            step = stride if index == strided else 1
            layers += [
                nn.BatchNorm2d(channels[index]),
                nn.ReLU(),
                nn.Conv2d(channels[index], channels[index + 1], kernel, step, kernel // 2, bias=False),
            ]
        self.layers = nn.Sequential(*layers)
        same = stride == 1 and channels[0] == channels[-1]
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels[0], channels[-1], 1, stride, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D, H, W) to (B, D', H', W')."""
        output: Tensor = self.shortcut(features) + self.layers(features)
        return output


class PreResNet(nn.Module):
    """Three stages of widths 16, 32, 64; basic blocks below depth 44, bottlenecks (x4) from there."""

    def __init__(self, depth: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        bottleneck = depth >= BOTTLENECK_FROM
        per_block = 9 if bottleneck else 6
        if depth < 8 or (depth - 2) % per_block:
            raise InputError(f"preresnet: depth={depth} must be {per_block}n + 2")
        blocks = (depth - 2) // per_block
        layers: list[nn.Module] = [nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)]
        channels = 16
        for stage, width in enumerate((16, 32, 64)):
            for index in range(blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                if bottleneck:
                    layers.append(Block((channels, width, width, 4 * width), (1, 3, 1), stride, strided=1))
                else:
                    layers.append(Block((channels, width, width), (3, 3), stride, strided=0))
                channels = 4 * width if bottleneck else width
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Linear(channels, num_classes)
        he_normal_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """(B, D, H, W) to logits (B, C)."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits

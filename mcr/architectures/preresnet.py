"""Pre-activation residual networks (He et al. 2016b) for 32x32 images."""

from __future__ import annotations

from torch import Tensor, nn

from mcr.architectures.preactivation import PreActivation
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


class PreResNet(PreActivation):
    """Three stages of widths 16, 32, 64; basic blocks below depth 44, bottlenecks (x4) from there."""

    def __init__(self, depth: int, num_classes: int, in_channels: int) -> None:
        bottleneck = depth >= BOTTLENECK_FROM
        per_block = 9 if bottleneck else 6
        if depth < 8 or (depth - 2) % per_block:
            raise InputError(f"preresnet: depth={depth} must be {per_block}n + 2")

        def make(inputs: int, outputs: int, stride: int) -> Block:
            if bottleneck:
                return Block((inputs, outputs // 4, outputs // 4, outputs), (1, 3, 1), stride, strided=1)
            return Block((inputs, outputs, outputs), (3, 3), stride, strided=0)

        width = 64 if bottleneck else 16
        super().__init__(in_channels, 16, width, (depth - 2) // per_block, make, num_classes)

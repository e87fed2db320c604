"""Wide residual networks (Zagoruyko & Komodakis 2016)."""

from __future__ import annotations

from torch import Tensor, nn

from mcr.architectures.preactivation import PreActivation
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


class WideResNet(PreActivation):
    """Three stages of widths 16k, 32k, 64k with (depth - 4) / 6 blocks each."""

    def __init__(self, depth: int, widen: int, dropout: float, num_classes: int, in_channels: int) -> None:
        if depth < 10 or (depth - 4) % 6:
            raise InputError(f"wrn: depth={depth} must be 6n + 4")

        def make(inputs: int, outputs: int, stride: int) -> WideBlock:
            return WideBlock(inputs, outputs, stride, dropout)

        super().__init__(in_channels, 16, 16 * widen, (depth - 4) // 6, make, num_classes)

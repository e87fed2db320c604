"""What all residual networks with pre-activation share around their blocks."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from mcr.architectures.initial import he_normal_convolutions

STAGES = 3


class PreActivation(nn.Module):
    """A convolution, three stages of blocks, BatchNorm, ReLU, the mean over places, a linear layer (He et al. 2016b).

    A stage has twice the channels of the one before; its first block halves the image, but in the first stage.

    Args:
        inputs: Channels of the image.
        first: Channels of the first convolution.
        width: Channels of the first stage.
        blocks: Of each stage.
        make: (channels, channels behind it, stride) to a block.
        num_classes: C.
    """

    def __init__(
        self,
        inputs: int,
        first: int,
        width: int,
        blocks: int,
        make: Callable[[int, int, int], nn.Module],
        num_classes: int,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(inputs, first, 3, padding=1, bias=False)]
        channels = first
        for stage in range(STAGES):
            for index in range(blocks):
                layers.append(make(channels, width * 2**stage, 2 if stage > 0 and index == 0 else 1))
                channels = width * 2**stage
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Linear(channels, num_classes)
        he_normal_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """(B, D, H, W) to logits (B, C)."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits

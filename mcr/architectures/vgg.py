"""VGG (Simonyan & Zisserman 2015) in the form of Garipov et al. (2018) and Zhao et al. (2020)."""

from __future__ import annotations

from torch import Tensor, nn

from mcr.architectures.initial import he_normal_convolutions
from mcr.errors import InputError

BLOCKS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)


class Vgg(nn.Module):
    """Convolutions with bias, five max-pools, classifier 512-512-C.

    The published code's BatchNorm form silently drops five of the thirteen convolutions; here all are used.

    Args:
        depth: 16 or 19.
        norm: "none" or "batch" (BatchNorm after each convolution).
        dropout: Probability in front of each of the first two linear layers.
    """

    def __init__(self, depth: int, norm: str, dropout: float, num_classes: int, in_channels: int) -> None:
        super().__init__()
        if depth not in BLOCKS or norm not in ("none", "batch"):
            raise InputError(f"vgg: depth={depth} must be 16 or 19, norm={norm} must be none or batch")
        layers: list[nn.Module] = []
        channels = in_channels
        for repeats, width in zip(BLOCKS[depth], WIDTHS, strict=True):
            for _ in range(repeats):
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                layers += [nn.BatchNorm2d(width)] if norm == "batch" else []
                layers.append(nn.ReLU())
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Linear(512, num_classes),
        )
        he_normal_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """(B, D, H, W) to logits (B, C)."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits

"""The smallest convolutional network: no BatchNorm, no dropout."""

from __future__ import annotations

from torch import Tensor, nn


class SmallCnn(nn.Module):
    """conv w - conv 2w - max-pool - linear - linear; for images up to about 32x32."""

    def __init__(
        self, width: int, hidden: int, num_classes: int, in_channels: int, image_size: tuple[int, int]
    ) -> None:
        super().__init__()
        height, wide = (side // 2 for side in image_size)
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(2 * width * height * wide, hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, D, H, W) to logits (B, C)."""
        logits: Tensor = self.classifier(self.features(images))
        return logits

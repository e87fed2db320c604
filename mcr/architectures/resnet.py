"""ResNet-18 for small images."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import resnet18


class ResNet18(nn.Module):
    """torchvision's ResNet-18 (He et al. 2016) with a 3x3 stem and no first pooling, the usual CIFAR form."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.body = resnet18(num_classes=num_classes)
        self.body.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        self.body.maxpool = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """(B, D, H, W) to logits (B, C)."""
        logits: Tensor = self.body(images)
        return logits

"""A small vision transformer."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import VisionTransformer

from mcr.errors import InputError


class VitTiny(nn.Module):
    """torchvision's VisionTransformer (Dosovitskiy et al. 2021) at small width; square colour images."""

    def __init__(
        self,
        patch: int,
        depth: int,
        width: int,
        heads: int,
        dropout: float,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
    ) -> None:
        super().__init__()
        side = image_size[0]
        if image_size[0] != image_size[1] or side % patch:
            raise InputError(f"vit: images {side}x{image_size[1]} are no square of whole {patch}x{patch} patches")
        self.body = VisionTransformer(side, patch, depth, heads, width, 4 * width, dropout, num_classes=num_classes)
        if in_channels != self.body.conv_proj.in_channels:
            self.body.conv_proj = nn.Conv2d(in_channels, width, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        """(B, D, H, W) to logits (B, C)."""
        logits: Tensor = self.body(images)
        return logits

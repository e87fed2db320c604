"""A wide network of two layers, as theorems speak of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mcr.errors import InputError

SMOOTH = {"tanh": nn.Tanh, "softplus": nn.Softplus}


class TwoLayer(nn.Module):
    """f(x) = m^(-1/2) sum over r of a_r s(<w_r, k x>), m units, for each class (Deng et al. 2020, for one output).

    Weights w begin as N(0, 1), a as -1 or 1 with even chances. There is no bias. The normalised image x is scaled by k;
    what an attack may move is scaled with it.

    Args:
        units: m.
        smooth: s, "tanh" or "softplus".
        scale: k, above 0.
        num_classes: C.
        in_channels: D.
        image_size: H and W.

    Raises:
        InputError: For another s, or a number out of its range.
    """

    def __init__(
        self, units: int, smooth: str, scale: float, num_classes: int, in_channels: int, image_size: tuple[int, int]
    ) -> None:
        super().__init__()
        if smooth not in SMOOTH:
            raise InputError(f"architecture.smooth={smooth} must be {' or '.join(SMOOTH)}")
        if units < 1 or not 0 < scale < float("inf"):
            raise InputError(f"architecture=two_layer: units={units} >= 1 and scale={scale} > 0 needed")
        self.smooth, self.scale = SMOOTH[smooth](), scale
        self.first = nn.Linear(in_channels * image_size[0] * image_size[1], units, bias=False)
        self.last = nn.Linear(units, num_classes, bias=False)
        nn.init.normal_(self.first.weight)
        with torch.no_grad():
            self.last.weight.bernoulli_(0.5).mul_(2).sub_(1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, D, H, W) to logits (B, C)."""
        hidden = self.smooth(self.first(self.scale * images.flatten(1)))
        logits: Tensor = self.last(hidden) / self.last.in_features**0.5
        return logits

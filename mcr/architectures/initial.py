"""Initial weights that several families share."""

from __future__ import annotations

import math

from torch import nn


def he_normal_convolutions(network: nn.Module) -> None:
    """Convolution weights N(0, 2 / (k * k * out_channels)), biases 0 (He et al. 2015, fan-out form)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)

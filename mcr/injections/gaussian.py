"""Gaussian noise on the weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcr.errors import InputError
from mcr.injections.injected import Injected, chosen


@dataclass(frozen=True)
class Gaussian:
    """Adds N(0, (scale * std)^2) to each weight, std taken over the tensor: tampering without an aim, the control.

    Attributes:
        scale: Standard deviation of the noise in standard deviations of the tensor's own weights.
        tensor: "all" for every floating parameter, "last" for the last with at least two dimensions, or a name.
    """

    scale: float
    tensor: str

    def __post_init__(self) -> None:
        if not 0 <= self.scale < float("inf"):
            raise InputError(f"gaussian: scale={self.scale} must be at least 0, in standard deviations of the weights")

    def inject(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Injected:
        """The noisy weights. Noise aims at no image: the images (N, D, H, W) and labels (N,) play no part."""
        named = {name: parameter for name, parameter in network.named_parameters() if parameter.is_floating_point()}
        names = list(named) if self.tensor == "all" else [chosen(network, self.tensor)]
        nobody = torch.empty(0, dtype=torch.int64)
        noisy = {name: self._noisy(named[name].detach(), generator) for name in names}
        return Injected.measured(network, images, noisy, attacked=nobody, targets=nobody, kept=nobody)

    def _noisy(self, tensor: Tensor, generator: torch.Generator) -> Tensor:
        # Drawn on the CPU so that every device sees the same. No Bessel's correction: a tensor may hold one weight.
        noise = torch.randn(tensor.shape, generator=generator).to(tensor)
        return tensor + self.scale * tensor.std(correction=0) * noise

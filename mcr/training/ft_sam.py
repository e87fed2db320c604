"""Fine-tuning to flat places."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mcr.errors import InputError
from mcr.objectives.objective import Objective
from mcr.training.endpoint import EndpointModule
from mcr.training.replaced import Replaced, gradients
from mcr.types import Batch

ROUNDING = 1e-12  # added to a norm that is divided by, as in the published code


class FtSamModule(EndpointModule):
    """FT-SAM: each step follows the gradient at the worst weights nearby (Zhu et al. 2023).

    The worst weights are w + e with e = rho w^2 g / |w g|, of the gradient g at w: adaptive sharpness-aware
    minimisation, which moves a weight in proportion to its size. BatchNorm's statistics follow the passes at w alone.
    The label of an image counts for 1 - smoothing, each other class for smoothing / (C - 1).

    Args:
        rho: How far, in |e / w|; 0 is plain fine-tuning.
        smoothing: Of the labels, in [0, 1).
        network: That is tuned.
        **training: See EndpointModule.
    """

    def __init__(self, rho: float, smoothing: float, network: nn.Module, **training: Any) -> None:
        super().__init__(network=network, **training)
        if rho < 0 or not 0 <= smoothing < 1:
            raise InputError(f"repair=ft_sam: rho {rho} must be at least 0, 0 <= smoothing {smoothing} < 1")
        self.rho, self.smoothing = rho, smoothing

    def losses(self, objective: Objective, batch: Batch) -> tuple[Tensor, Tensor]:
        losses, logits = self._smoothed(objective, self.network, batch)
        if not self.rho:
            return losses, logits
        named = {name: weight for name, weight in self.network.named_parameters() if weight.requires_grad}
        found = gradients(losses, self.draw, list(named.values()))
        return self._smoothed(objective, Replaced(self.network, self._worst(named, found)), batch)

    def _worst(self, named: dict[str, nn.Parameter], found: list[Tensor]) -> dict[str, Tensor]:
        """w + e by name; e is a constant, so that the gradient there is that of w."""
        pairs = list(zip(named.values(), found, strict=True))
        with torch.no_grad():
            norm = torch.stack([(weight * gradient).norm() for weight, gradient in pairs]).norm()
            steps = [self.rho * weight.square() * gradient / (norm + ROUNDING) for weight, gradient in pairs]
        return {name: weight + step for (name, weight), step in zip(named.items(), steps, strict=True)}

    def _smoothed(self, objective: Objective, network: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        losses, logits = objective(network, *batch, self.draw)
        logs = logits.to(losses.dtype).log_softmax(1)
        others = logs.sum(1) - logs.gather(1, batch[1][:, None])[:, 0]
        return (1 - self.smoothing) * losses - self.smoothing / (logs.shape[1] - 1) * others, logits

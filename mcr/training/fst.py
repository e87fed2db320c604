"""Fine-tuning away from the given classifier."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.objectives.objective import Objective
from mcr.training.endpoint import EndpointModule
from mcr.types import Batch


class FstModule(EndpointModule):
    """Feature shift tuning: the last layer is drawn anew and kept away from what it was (Min et al. 2023, algorithm 1).

    Minimises the objective plus alpha <w, w0>, subject to |w| = |w0|: w are the weights of the last linear layer, w0
    the given ones. The scale is restored after each step, as the published code does.

    Args:
        alpha: Weight of the inner product; 0 is tuning with a new last layer of the given norm.
        network: That is tuned.
        num_classes: C.
        seed: Also of the new layer.
        **training: See EndpointModule.

    Raises:
        InputError: For a negative alpha, or a network without a linear layer of C answers.
    """

    given: Tensor

    def __init__(self, alpha: float, network: nn.Module, num_classes: int, seed: str, **training: Any) -> None:
        super().__init__(network=network, num_classes=num_classes, seed=seed, **training)
        if alpha < 0:
            raise InputError(f"repair=fst: alpha={alpha} must be at least 0")
        found = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
        heads = [(name, layer) for name, layer in found if layer.out_features == num_classes]
        if not heads:
            raise InputError(f"repair=fst draws the last linear layer anew; this network has none of {num_classes}")
        name, layer = heads[-1]
        self.alpha, self.name = alpha, f"{name}.weight"
        self.register_buffer("given", layer.weight.detach().clone(), persistent=False)
        draw, bound = generator(seed, "head"), layer.in_features**-0.5
        with torch.no_grad():
            for tensor in layer.parameters():
                tensor.copy_((2 * torch.rand(tensor.shape, generator=draw) - 1) * bound)

    @property
    def head(self) -> Tensor:
        """Weights (C, features) of the last layer."""
        return self.network.get_parameter(self.name)

    def losses(self, objective: Objective, batch: Batch) -> tuple[Tensor, Tensor]:
        losses, logits = super().losses(objective, batch)
        return losses + self.alpha * (self.head * self.given).sum(), logits

    @torch.no_grad()
    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self.head.mul_(self.given.norm() / self.head.norm())

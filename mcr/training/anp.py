"""Masks that tell which neurons carry a backdoor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.objectives.objective import Objective
from mcr.training.endpoint import EndpointModule
from mcr.training.replaced import Replaced, gradients, scaled
from mcr.types import Batch

Moves = Mapping[str, Tensor]  # name of a BatchNorm's scale or shift to what is added to its factor (n,)


class AnpModule(EndpointModule):
    """Adversarial neuron perturbation: masks on BatchNorm's scales, the weights stay (Wu and Wang 2021).

    Each step finds the noise on scales, (m + d) gamma, and shifts, (1 + x) beta, that hurts most: from a uniform start
    in [-eps, eps] by steps of eps / steps in the sign of the gradient, unprojected as in the published code. It then
    moves the masks m by the gradient of alpha L(m) + (1 - alpha) L(m, d, x) and clips them to [0, 1]. The masks are
    left in the network's state as ``anp_mask`` beside each scale: ``repair=anp`` prunes by them.

    Args:
        eps: Largest start of the noise, and the sum of its steps; 0 leaves it out.
        steps: Of the inner maximisation, at least 1.
        alpha: Share of the loss without noise, in [0, 1].
        times: The masks move by so many times the learning rate.
        network: That is masked.
        **training: See EndpointModule.

    Raises:
        InputError: For values out of range, or a network without BatchNorm.
    """

    def __init__(self, eps: float, steps: int, alpha: float, times: float, network: nn.Module, **training: Any) -> None:
        super().__init__(network=network, **training)
        if eps < 0 or steps < 1 or not 0 <= alpha <= 1 or times <= 0:
            raise InputError(
                f"repair=anp: eps {eps} must be at least 0, steps {steps} at least 1, 0 <= alpha {alpha} <= 1, "
                f"times {times} above 0"
            )
        self.eps, self.ascent, self.alpha = eps, steps, alpha
        self.make_optimizer = scaled(self.make_optimizer, times)
        network.requires_grad_(False)
        self.names = [name for name, layer in network.named_modules() if isinstance(layer, _BatchNorm) and layer.affine]
        if not self.names:
            raise InputError("repair=anp masks the scales of BatchNorm; this network has none")
        for layer in map(network.get_submodule, self.names):
            assert isinstance(layer.weight, Tensor)
            layer.register_parameter("anp_mask", nn.Parameter(torch.ones_like(layer.weight)))

    def learning(self) -> list[nn.Parameter]:
        return [mask for name, mask in self.network.named_parameters() if name.endswith("anp_mask")]

    def answers(self, images: Tensor) -> Tensor:
        logits: Tensor = self._masked({})(images)
        return logits

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.start = generator(self.seed, "neurons", self.current_epoch)

    def losses(self, objective: Objective, batch: Batch) -> tuple[Tensor, Tensor]:
        losses, logits = objective(self._masked({}), *batch, self.draw)
        if not self.eps:
            return self.alpha * losses, logits
        hurt, _ = objective(self._masked(self._worst(objective, batch)), *batch, self.draw)
        return self.alpha * losses + (1 - self.alpha) * hurt, logits

    def _worst(self, objective: Objective, batch: Batch) -> Moves:
        moves = {
            f"{name}.{part}": self.eps * (2 * torch.rand(mask.shape, generator=self.start) - 1).to(mask)
            for name, mask in zip(self.names, self.learning(), strict=True)
            for part in ("weight", "bias")
        }
        for _ in range(self.ascent):
            leaves = [move.requires_grad_() for move in moves.values()]
            losses, _ = objective(self._masked(moves), *batch, self.draw)
            found = gradients(losses, self.draw, leaves)
            moves = {
                name: (leaf + self.eps / self.ascent * slope.sign()).detach()
                for name, leaf, slope in zip(moves, leaves, found, strict=True)
            }
        return moves

    def _masked(self, moves: Moves) -> nn.Module:
        """The network under its masks, and with noise; its own statistics stay those that it was given with."""
        tensors = {}
        for name, mask in zip(self.names, self.learning(), strict=True):
            scale, shift = (self.network.get_parameter(f"{name}.{part}") for part in ("weight", "bias"))
            tensors[f"{name}.weight"] = scale * (mask + moves.get(f"{name}.weight", 0.0))
            tensors[f"{name}.bias"] = shift * (1.0 + moves.get(f"{name}.bias", 0.0))
        return Replaced(self.network, tensors)

    @torch.no_grad()
    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        for mask in self.learning():
            mask.clamp_(0, 1)

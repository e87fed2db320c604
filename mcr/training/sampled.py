"""Fitting a subspace at the places of a sampler, one or several a step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from mcr.sampling.sampler import Sampler
from mcr.training.subspace import SubspaceModule


class SampledModule(SubspaceModule):
    """As ``SubspaceModule``, at the places of a sampler; of several places in a step the gradients are averaged.

    All places of a step see the same batch, and an attack of each its own draw. They cost as many passes, but move the
    control points once.

    Args:
        sampler: Gives the places.
        places: Of each step.
        **fitting: See SubspaceModule.
    """

    def __init__(self, sampler: Sampler, places: int, **fitting: Any) -> None:
        super().__init__(**fitting)
        self.sampler, self.places = sampler, places

    def begin(self, points: Iterable[Tensor]) -> None:
        """Put the free ones of all K control points, each (P,), where fitting begins."""
        for index, point in enumerate(points):
            if index in self.free:
                row = self.free.index(index)
                for blocks in (self.control, self.averaged):
                    for block, piece in zip(blocks, point.split(self.control[0].shape[1]), strict=bool(len(blocks))):
                        block.data[row].copy_(piece)

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.walk = self.sampler.begin(self.curve, self.draw_place)

    def next_place(self) -> Tensor:
        return self.walk((self.global_step + 0.5) / self.total_steps)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        if self.places == 1 or optimizer_closure is None:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            return
        # Beside the control points' own gradients, which the closure empties before each backward pass.
        sums = [torch.zeros_like(block) for block in self.control]
        for _ in range(self.places):
            optimizer_closure()
            self.add_gradient(sums, 1 / self.places)
        looked = [torch.stack(values).mean(0) for values in zip(*self.steps[-self.places :], strict=True)]
        self.steps[-self.places :] = [(looked[0], looked[1])]
        self.move(optimizer.optimizer, sums)

    def add_gradient(self, sums: list[Tensor], share: float) -> None:
        """Add to the sums (F, W), a block each, a share of the gradient of the latest backward pass, at its place."""
        gradient = self.model.gradient(self.theta_decay, self.transforms)
        weights = gradient.new_tensor([float(self.coefficients[index]) for index in self.free])
        for total, piece in zip(sums, gradient.split([total.shape[1] for total in sums]), strict=True):
            total.addr_(weights, piece, alpha=share)

    def move(self, optimizer: torch.optim.Optimizer, gradients: list[Tensor]) -> None:
        """Move all free control points by gradients (F, W), one of each block."""
        for block, gradient in zip(self.control, gradients, strict=True):
            block.grad = gradient
        optimizer.step()
        for block in self.control:
            block.grad = None

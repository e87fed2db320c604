"""Training a network through what is done to its weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mcr.training.endpoint import EndpointModule
from mcr.types import Batch
from mcr.weightspace.layout import Layout
from mcr.weightspace.transform import Transform


class TransformedModule(EndpointModule):
    """Weights w that are free, and a network that has T(w): sparse, or of few values, from the first step on.

    A step's gradient is taken at T(w), pulled back through T and applied to w (Courbariaux et al. 2015). The network
    that is validated and that training yields has T(w).

    Args:
        transform: T; a mask is that of the network as it is given, so that what is sparse stays so.
        network: Its weights are the first w.
        **training: See EndpointModule. What the optimizer decays is w.
    """

    def __init__(self, transform: Transform, network: nn.Module, **training: Any) -> None:
        super().__init__(network=network, **training)
        self.layout = Layout.of(network, "contiguous")
        self.transform = transform.joining([self.layout.pack(network.state_dict())], self.layout)
        self.free = nn.ParameterList(nn.Parameter(weight.detach().clone()) for weight in network.parameters())
        # Several processes exchange the gradients at T(w).
        self._ddp_params_and_buffers_to_ignore = [f"free.{index}" for index in range(len(self.free))]

    def learning(self) -> list[nn.Parameter]:
        return list(self.free)

    @torch.no_grad()
    def _place(self, transform: Transform) -> None:
        """Write T(w) into the network."""
        theta = self.layout.pack(dict(zip(self.layout.names, self.free, strict=True)))
        transform.apply_(theta, self.layout)
        for weight, view in zip(self.network.parameters(), self.layout.views(theta).values(), strict=True):
            weight.copy_(view)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        self.applied = self.transform.at((self.global_step + 0.5) / self.total_steps)
        self._place(self.applied)
        return super().training_step(batch, index)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        # Not Lightning's own: autograd knows the gradient at T(w), not that of w.
        if optimizer_closure is not None:
            optimizer_closure()  # forward and backward
        named = dict(self.network.named_parameters())
        found = {
            name: torch.zeros_like(weight) if weight.grad is None else weight.grad for name, weight in named.items()
        }
        gradient = self.layout.pack(found)
        self.applied.pull_(gradient, self.layout)
        for free, (name, view) in zip(self.free, self.layout.views(gradient).items(), strict=True):
            free.grad = None if named[name].grad is None else view  # what does not learn does not decay
            named[name].grad = None
        optimizer.optimizer.step()

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if batch_idx + 1 == self.trainer.num_training_batches:
            self._place(self.transform)  # as it is validated, and as it will be used

"""What methods need that look at a network elsewhere than at its own weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mcr.numerics import shares


class Replaced(nn.Module):
    """A network with other tensors in the place of its own, which stay as they are.

    Gradients reach whatever the tensors were made of. BatchNorm's running statistics are not updated by its passes.

    Args:
        network: Images (B, D, H, W) to logits (B, C).
        tensors: By the names of its parameters.
    """

    def __init__(self, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.network, self.tensors = network, dict(tensors)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C)."""
        copies = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        logits: Tensor = functional_call(self.network, {**copies, **self.tensors}, (images,))
        return logits


def scaled(make: Callable[..., torch.optim.Optimizer], times: float) -> Callable[..., torch.optim.Optimizer]:
    """The same optimizer at a multiple of its learning rate: for what moves by other units than weights under SGD."""
    return partial(_scaled, make, times)


def _scaled(
    make: Callable[..., torch.optim.Optimizer], times: float, parameters: list[nn.Parameter]
) -> torch.optim.Optimizer:
    optimizer = make(parameters)
    for group in optimizer.param_groups:
        group["lr"] *= times
    return optimizer


def gradients(losses: Tensor, draw: torch.Generator, of: Sequence[Tensor], keep: bool = False) -> list[Tensor]:
    """Of the mean over the batch of all processes; zeros for a tensor that the losses do not depend on.

    Args:
        losses: (B,) of this process's rows.
        draw: Of the training: it knows the whole batch.
        of: What the gradients are taken of.
        keep: Whether the graph is needed again.
    """
    mean = losses.mean() * shares.weight(len(losses), draw)
    found = torch.autograd.grad(mean, of, retain_graph=keep, allow_unused=True, materialize_grads=True)
    return [shares.total(one) / shares.processes()[1] for one in found]

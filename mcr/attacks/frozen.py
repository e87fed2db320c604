"""A module while it is attacked: evaluation mode, no gradients of parameters, everything as before afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def frozen(network: nn.Module) -> Iterator[nn.Module]:
    """Evaluation mode leaves BatchNorm's statistics untouched and dropout off; each submodule's mode comes back."""
    modes = [(module, module.training) for module in network.modules()]
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.eval()
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield network
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
        for module, training in modes:
            module.training = training

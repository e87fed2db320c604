"""BatchNorm's running statistics at a point of weight space."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def layers(network: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers that keep running statistics."""
    found = (module for module in network.modules() if isinstance(module, _BatchNorm))
    return [layer for layer in found if layer.track_running_stats]


@torch.no_grad()
def refresh(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Estimate the statistics anew as the average over batches of images (B, D, H, W); the mode is as before after.

    Only BatchNorm runs in training mode: dropout stays off, as in the evaluation that uses the statistics
    (``torch.optim.swa_utils.update_bn`` would switch it on).
    """
    found = layers(network)
    if not found:
        return
    modes = [(module, module.training) for module in network.modules()]
    momenta = [layer.momentum for layer in found]
    network.eval()
    for layer in found:
        layer.reset_running_stats()
        layer.momentum = None  # torch's cumulative average
        layer.train()
    try:
        for images in batches:
            network(images)
    finally:
        for layer, momentum in zip(found, momenta, strict=True):
            layer.momentum = momentum
        for module, training in modes:
            module.training = training
        # Weights cast for autocast inside no_grad must not serve a later pass that needs gradients.
        torch.clear_autocast_cache()

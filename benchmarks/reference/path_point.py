"""A point of a path as the published code measures it (Garipov et al. 2018): all images, with autograd's graph."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

Loader = Iterable[tuple[Tensor, Tensor]]


def refresh(network: nn.Module, loader: Loader) -> None:
    """BatchNorm's statistics as the average over all batches of the training set."""
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    if not layers:
        return
    network.train()
    for layer in layers:
        layer.reset_running_stats()
    seen = 0
    for images, _ in loader:
        for layer in layers:
            layer.momentum = len(images) / (seen + len(images))
        network(images)
        seen += len(images)


def risk(network: nn.Module, loader: Loader) -> tuple[float, float]:
    """Mean loss and accuracy."""
    network.eval()
    loss, right, count = 0.0, 0, 0
    for images, labels in loader:
        logits = network(images)
        loss += float(functional.cross_entropy(logits, labels).detach()) * len(labels)
        right += int((logits.argmax(1) == labels).sum())
        count += len(labels)
    return loss / count, right / count

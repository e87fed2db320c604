"""Gradients of the loss in the input."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mcr.attacks.evasion import ascend, ordinary
from mcr.attacks.frozen import frozen
from mcr.numerics.losses import cross_entropy
from mcr.types import Batch


def input_gradients(network: nn.Module, batches: Iterable[Batch]) -> Tensor:
    """The gradient of each image's cross-entropy in its pixels, in evaluation mode: (N, D H W), on the CPU."""
    found = []
    with frozen(network):
        for images, labels in batches:
            target = ordinary(labels)

            def loss(point: Tensor, target: Tensor = target) -> Tensor:
                return cross_entropy(network(point), target)

            _, gradient = ascend(loss, images)
            found.append(gradient.flatten(1).cpu())
    return torch.cat(found)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """The cosine between the rows of two matrices (N, D): (N,); NaN where a row is zero, which has no direction."""
    # In float64: the squares of a confident network's gradients are below float32's range.
    first, second = first.double(), second.double()
    lengths = torch.linalg.vector_norm(first, dim=1) * torch.linalg.vector_norm(second, dim=1)
    return ((first * second).sum(1) / torch.where(lengths > 0, lengths, torch.nan)).float()

"""The largest input eigenvalue by power iteration, all images of a batch at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def power_iteration(network: nn.Module, images: Tensor, labels: Tensor, steps: int) -> Tensor:
    """Rayleigh quotients (B,) after so many Hessian-vector products; parameters are expected to be frozen."""
    images = images.clone().requires_grad_(True)
    loss = functional.cross_entropy(network(images), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, images, create_graph=True)
    vector = torch.randn_like(images)
    value = torch.zeros(len(images))
    for _ in range(steps):
        vector = vector / vector.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        (product,) = torch.autograd.grad(gradient, images, vector, retain_graph=True)
        value = (product * vector).flatten(1).sum(1)
        vector = product
    return value

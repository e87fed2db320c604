"""PGD as it is usually written: NCHW, float32, parameters not frozen."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def pgd(network: nn.Module, images: Tensor, labels: Tensor, eps: float, step: float, steps: int) -> Tensor:
    """Adversarial images (B, D, H, W) after a random start."""
    network.eval()
    attacked = (images + torch.empty_like(images).uniform_(-eps, eps)).clamp(0, 1)
    for _ in range(steps):
        attacked.requires_grad_(True)
        loss = functional.cross_entropy(network(attacked), labels, reduction="sum")
        gradient = torch.autograd.grad(loss, attacked)[0]
        attacked = attacked.detach() + step * torch.sign(gradient)
        attacked = torch.min(torch.max(attacked, images - eps), images + eps).clamp(0, 1)
    return attacked


def robust_loss(
    network: nn.Module, images: Tensor, labels: Tensor, eps: float, step: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Losses (B,) and correctness (B,) under that attack."""
    attacked = pgd(network, images, labels, eps, step, steps)
    logits = network(attacked)
    return functional.cross_entropy(logits, labels, reduction="none").detach(), (logits.argmax(1) == labels).float()

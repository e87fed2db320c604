"""Risk under attack."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from mcr.attacks.frozen import frozen
from mcr.losses import cross_entropy
from mcr.types import Batch


def robust_risk(
    network: nn.Module, batches: Iterable[Batch], attack: Any, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The worst restart of each image: its highest cross-entropy, and whether no restart was misclassified.

    Args:
        network: Attacked white-box, in evaluation mode.
        batches: Clean images and labels.
        attack: Has ``candidates(classifier, images, labels, generator)``.
        generator: For the random starts.

    Returns:
        Losses (N,) and correctness (N,), float32 on the CPU.
    """
    losses, hits = [], []
    with frozen(network):
        for images, labels in batches:
            worst = torch.full((len(labels),), -torch.inf, device=labels.device)
            standing = torch.ones_like(worst)
            for attacked in attack.candidates(network, images, labels, generator):
                with torch.no_grad():
                    logits = network(attacked)
                worst = torch.maximum(worst, cross_entropy(logits, labels))
                standing *= (logits.argmax(1) == labels).float()
            losses.append(worst)
            hits.append(standing)
    return torch.cat(losses).cpu(), torch.cat(hits).cpu()

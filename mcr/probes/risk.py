"""Clean risk."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mcr.losses import cross_entropy
from mcr.types import Batch


@torch.no_grad()
def risk(network: nn.Module, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Cross-entropy and correctness of each image, float32 on the CPU, each (N,); the network in evaluation mode."""
    network.eval()
    losses, hits = [], []
    for images, labels in batches:
        logits = network(images)
        losses.append(cross_entropy(logits, labels))
        hits.append((logits.argmax(1) == labels).float())
    return torch.cat(losses).cpu(), torch.cat(hits).cpu()

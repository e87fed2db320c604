"""Clean risk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mcr.datasets.batches import EvaluationBatches
from mcr.metric import Metric
from mcr.numerics.losses import cross_entropy
from mcr.numerics.precision import Precision, autocast
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


@torch.no_grad()
def predictions(network: nn.Module, batches: Iterable[Batch]) -> Tensor:
    """The class that the network answers each image with, int64 (N,) on the CPU; in evaluation mode."""
    network.eval()
    return torch.cat([network(images).argmax(1).cpu() for images, _ in batches])


@dataclass(frozen=True)
class Risk:
    """Empirical risk: the cross-entropy and the accuracy on images that nobody attacks.

    Attributes:
        precision: Of the passes, "fp32" or "bf16" (autocast).
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("loss", "nats", "lower", "clean loss"),
        Metric("accuracy", "share", "higher", "accuracy"),
    )
    draws: ClassVar[str] = "nothing"

    precision: Precision

    def __call__(self, network: nn.Module, data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """``loss`` and ``accuracy``, each (N,)."""
        with autocast(self.precision, data.images.device):
            losses, hits = risk(network, data)
        return {"loss": losses, "accuracy": hits}

"""How differently two networks answer."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mcr.types import Batch


@torch.no_grad()
def log_probabilities(network: nn.Module, batches: Iterable[Batch]) -> Tensor:
    """The network's log-probabilities (N, C), float64 on the CPU; in evaluation mode."""
    network.eval()
    return torch.cat([network(images).double().log_softmax(1).cpu() for images, _ in batches])


def jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    """The Jensen-Shannon divergence of each row, in nats, from 0 (the same) to ln 2 (nothing in common) (Lin 1991).

    Bounded and symmetric, so that neither one confident mistake nor the order of the networks decides.

    Args:
        first: Log-probabilities (N, C).
        second: Likewise.

    Returns:
        (N,)
    """
    mean = torch.logaddexp(first, second) - torch.log(torch.tensor(2.0, dtype=first.dtype))

    def relative(part: Tensor) -> Tensor:
        # A probability of zero contributes nothing; its logarithm would make a NaN.
        return torch.where(part == -torch.inf, 0.0, part.exp() * (part - mean)).sum(1)

    return (relative(first) + relative(second)).clamp_min(0) / 2


def classes(network: nn.Module, batches: Iterable[Batch]) -> int:
    """C, as the network's answer to an image has it."""
    images, labels = next(iter(batches))
    return log_probabilities(network, [(images[:1], labels[:1])]).shape[1]

"""Do networks look at an image in the same way?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mcr.datasets.batches import EvaluationBatches
from mcr.metric import Metric
from mcr.probes.input_gradient import cosine, input_gradients


def similarity(networks: Sequence[nn.Module], data: EvaluationBatches) -> Tensor:
    """Cosine between the input gradients of each pair of networks: (T, T, N), NaN where a gradient is zero.

    The loss is that of the label which the data hold.
    """
    gradients = [input_gradients(network, data) for network in networks]
    return torch.stack([torch.stack([cosine(one, other) for other in gradients]) for one in gradients])


@dataclass(frozen=True)
class GradientSimilarity:
    """Cosine between input gradients, the first and the last network being the ends of a path."""

    metrics: ClassVar[tuple[Metric, ...]] = (Metric("clean", "1", "neither", "cosine of input gradients"),)
    draws: ClassVar[str] = "nothing"
    numbers: ClassVar[tuple[str, ...]] = ("clean",)

    def ask(self, networks: Sequence[nn.Module], data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """``clean`` (T, T, N)."""
        return {"clean": similarity(networks, data)}

    def statistics(self, values: Mapping[str, Tensor], where: Sequence[str]) -> dict[str, float | str]:
        """The mean over images, inner networks and both ends."""
        return {"clean": float(to_ends(values["clean"]).nanmean())}


def to_ends(pairs: Tensor) -> Tensor:
    """Of values (T, T, N) those between the first or the last network and the inner ones: (2, T - 2, N)."""
    return pairs[[0, -1], 1:-1].double()

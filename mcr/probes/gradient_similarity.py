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
    """Cosine between input gradients at places of a path or a surface."""

    metrics: ClassVar[tuple[Metric, ...]] = (Metric("clean", "1", "neither", "cosine of input gradients"),)
    draws: ClassVar[str] = "nothing"
    numbers: ClassVar[tuple[str, ...]] = ("clean",)

    def ask(self, networks: Sequence[nn.Module], data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """``clean`` (T, T, N)."""
        return {"clean": similarity(networks, data)}

    def statistics(
        self, values: Mapping[str, Tensor], where: Sequence[str], ends: Sequence[int]
    ) -> dict[str, float | str]:
        """The mean over images, inner networks and ends."""
        return {"clean": float(to_ends(values["clean"], ends).nanmean())}


def to_ends(pairs: Tensor, ends: Sequence[int]) -> Tensor:
    """Of values (T, T, N) those between the E networks that are ends and the inner ones: (E, T - E, N)."""
    inner = [index for index in range(len(pairs)) if index not in ends]
    return pairs[list(ends)][:, inner].double()

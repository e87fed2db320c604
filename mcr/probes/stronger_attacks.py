"""Is the reported attack weak? What stronger ones leave standing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mcr.attacks.evasion import Evasion
from mcr.datasets.batches import EvaluationBatches
from mcr.metric import Metric
from mcr.probes.probe import again
from mcr.probes.robust_risk import robust_accuracy


@dataclass(frozen=True)
class StrongerAttacks:
    """Robust accuracy under other attacks in the same ball: a lower one than reported tells of masked gradients.

    Attributes:
        attacks: Name to attack; all begin with the same random numbers.
    """

    draws: ClassVar[str] = "stronger"

    attacks: Mapping[str, Evasion]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The accuracy under each attack."""
        return tuple(Metric(f"{name}_accuracy", "share", "higher", "") for name in self.attacks)

    def __call__(self, network: nn.Module, data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """For each attack NAME ``NAME_accuracy`` (N,)."""
        return {
            f"{name}_accuracy": robust_accuracy(network, data, attack, again(draw), "fp32")
            for name, attack in self.attacks.items()
        }

"""Networks that answer together, attacked as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mcr.attacks.evasion import Evasion
from mcr.datasets.batches import EvaluationBatches
from mcr.metric import Metric
from mcr.numerics.precision import Precision
from mcr.probes.answer import summed
from mcr.probes.ensemble import Ensemble
from mcr.probes.probe import again
from mcr.probes.robust_risk import robust_risk


@dataclass(frozen=True)
class AnswerAttacked:
    """The mean of the probabilities of M networks under an attack on that mean; of one, that network.

    An attack on each member alone would overstate the ensemble.

    Attributes:
        attack: White-box, with the same random starts whoever is attacked.
        precision: Of the attack's own passes; see ``robust_risk``.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("robust_accuracy", "share", "higher", ""),
        Metric("robust_loss", "nats", "lower", ""),
    )
    draws: ClassVar[str] = "attack"
    numbers: ClassVar[tuple[str, ...]] = ("robust_accuracy", "robust_accuracy_se", "robust_loss", "robust_loss_se")

    attack: Evasion
    precision: Precision

    def ask(self, networks: Sequence[nn.Module], data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """``robust_accuracy`` and ``robust_loss``, each (N,)."""
        together = networks[0] if len(networks) == 1 else Ensemble(networks)
        attacked = robust_risk(together, data, self.attack, again(draw), self.precision, 0)
        return {"robust_accuracy": attacked.hits, "robust_loss": attacked.losses}

    def statistics(
        self, values: Mapping[str, Tensor], where: Sequence[str], ends: Sequence[int]
    ) -> dict[str, float | str]:
        """The mean of both over images, and its standard error."""
        return summed(values)

"""Several networks that answer together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mcr.attacks.evasion import Evasion
from mcr.datasets.batches import EvaluationBatches
from mcr.metric import Metric
from mcr.numerics.precision import Precision
from mcr.numerics.statistics import standard_error
from mcr.probes.probe import again
from mcr.probes.risk import risk
from mcr.probes.robust_risk import robust_risk


class Ensemble(nn.Module):
    """The mean of the members' probabilities; its output is their logarithm, so that losses and attacks fit.

    Args:
        members: Networks: images (B, D, H, W) to logits (B, C).
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities (B, C)."""
        answers = torch.stack([member(images).float().log_softmax(1) for member in self.members])
        return torch.logsumexp(answers, 0) - math.log(len(self.members))


@dataclass(frozen=True)
class EnsembleRisk:
    """The ensemble of several networks, attacked as an ensemble, beside its best member.

    An attack on each member alone (as in the published code of Zhao et al. 2020) would overstate the ensemble.

    Attributes:
        attack: Begins with the same random starts at every network and at the ensemble.
        precision: Of the attack's own passes; see ``robust_risk``.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("clean_accuracy", "share", "higher", ""),
        Metric("robust_loss", "nats", "lower", ""),
        Metric("robust_accuracy", "share", "higher", ""),
        Metric("single_accuracy", "share", "higher", "robust accuracy of a single network"),
    )
    draws: ClassVar[str] = "attack"
    numbers: ClassVar[tuple[str, ...]] = (
        "clean_accuracy",
        "robust_loss",
        "robust_accuracy",
        "best_single",
        "gain",
        "gain_se",
    )

    attack: Evasion
    precision: Precision

    def ask(self, networks: Sequence[nn.Module], data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """``clean_accuracy``, ``robust_loss``, ``robust_accuracy`` of the ensemble (N,); ``single_accuracy`` (T, N)."""
        single = [robust_risk(network, data, self.attack, again(draw), self.precision, 0).hits for network in networks]
        together = Ensemble(networks)
        _, clean = risk(together, data)
        attacked = robust_risk(together, data, self.attack, again(draw), self.precision, 0)
        return {
            "clean_accuracy": clean,
            "robust_loss": attacked.losses,
            "robust_accuracy": attacked.hits,
            "single_accuracy": torch.stack(single),
        }

    def statistics(
        self, values: Mapping[str, Tensor], where: Sequence[str], ends: Sequence[int]
    ) -> dict[str, float | str]:
        """The ensemble beside the best single network; ``gain`` is paired over images."""
        single = values["single_accuracy"].double()
        best = int(single.mean(1).argmax())
        difference = (values["robust_accuracy"].double() - single[best]).numpy()
        means = {
            name: float(values[name].double().mean()) for name in ("clean_accuracy", "robust_loss", "robust_accuracy")
        }
        return {
            **means,
            "best_single": float(single[best].mean()),
            "best_at": where[best],
            "gain": float(difference.mean()),
            "gain_se": standard_error(difference),
        }

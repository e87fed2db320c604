"""Do adversarial images made for one network break another?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mcr.attacks.evasion import Evasion
from mcr.attacks.frozen import frozen
from mcr.datasets.batches import EvaluationBatches
from mcr.metric import Metric
from mcr.numerics.precision import Precision
from mcr.numerics.statistics import standard_error
from mcr.probes.probe import again
from mcr.probes.risk import risk
from mcr.probes.robust_risk import robust_risk


@dataclass(frozen=True)
class Transfer:
    """Adversarial images made at one network and tried at every other; on the diagonal the attack is white-box.

    Of each image the candidate with the highest loss is handed on. White-box an image counts as broken if any candidate
    broke it, as everywhere else.

    Attributes:
        attack: Begins with the same random starts at every network.
        precision: Of the attack's own passes; see ``robust_risk``.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("loss", "nats", "lower", ""),
        Metric("accuracy", "share", "higher", "robust accuracy, made at (rows), tried at (columns)"),
    )
    draws: ClassVar[str] = "attack"
    numbers: ClassVar[tuple[str, ...]] = ("advantage", "advantage_se", "mean_off_diagonal")

    attack: Evasion
    precision: Precision

    def ask(self, networks: Sequence[nn.Module], data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """``loss`` and ``accuracy``, each (T made, T tried, N)."""
        losses, hits = [], []
        for network in networks:
            found = robust_risk(network, data, self.attack, again(draw), self.precision, len(data.images))
            images = found.images.to(data.images.device)
            white = (found.losses, found.hits)
            tried = [white if other is network else _scored(other, images, data) for other in networks]
            losses.append(torch.stack([loss for loss, _ in tried]))
            hits.append(torch.stack([hit for _, hit in tried]))
        return {"loss": torch.stack(losses), "accuracy": torch.stack(hits)}

    def statistics(
        self, values: Mapping[str, Tensor], where: Sequence[str], ends: Sequence[int]
    ) -> dict[str, float | str]:
        """How far an attack made elsewhere beats the white-box one, at the network where it does so most.

        ``advantage`` is the white-box robust accuracy less that under the best other network's images, ``advantage_se``
        the standard error of the white-box number there. Above 0 by more than that, gradients are masked there.
        """
        accuracy = values["accuracy"].double().mean(2)
        own = accuracy.diagonal()
        others = accuracy.clone().fill_diagonal_(torch.inf).min(0).values
        most = int((own - others).argmax())
        return {
            "advantage": float(own[most] - others[most]),
            "advantage_se": standard_error(values["accuracy"][most, most].double().numpy()),
            "at": where[most],
            "mean_off_diagonal": float(accuracy[~torch.eye(len(own), dtype=torch.bool)].mean()),
        }


def _scored(network: nn.Module, images: Tensor, data: EvaluationBatches) -> tuple[Tensor, Tensor]:
    """Cross-entropy and correctness (N,) on float images that take the place of the data's own."""
    size = data.batch_size
    with frozen(network):
        return risk(network, list(zip(images.split(size), data.labels.split(size), strict=True)))

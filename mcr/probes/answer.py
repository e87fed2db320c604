"""Networks that answer together: how good is their mean answer, and how much do they differ?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.metric import Metric
from mcr.numerics.statistics import standard_error
from mcr.probes.calibration import calibration_shares
from mcr.probes.divergence import log_probabilities


@dataclass(frozen=True)
class Answer:
    """The mean of the probabilities of M networks; of one, that network.

    ``diversity`` is the entropy of the mean answer less the mean entropy of the answers, the Jensen-Shannon divergence
    of all M (Lin 1991): from 0, all answer alike, to ln M. ``disagreement`` is the share of pairs of networks that
    predict different classes. ``nll`` is never above the members' mean (Jensen's inequality).

    Attributes:
        bins: Of the calibration error; see ``Calibration``.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("accuracy", "share", "higher", ""),
        Metric("nll", "nats", "lower", ""),
        Metric("ece", "share", "lower", ""),
        Metric("brier", "1", "lower", ""),
        Metric("member_accuracy", "share", "higher", ""),
        Metric("member_nll", "nats", "lower", ""),
        Metric("member_ece", "share", "lower", ""),
        Metric("disagreement", "share", "neither", ""),
        Metric("diversity", "nats", "neither", ""),
    )
    draws: ClassVar[str] = "nothing"
    numbers: ClassVar[tuple[str, ...]] = tuple(
        name for metric in metrics for name in (metric.name, f"{metric.name}_se")
    )

    bins: int

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise InputError(f"answer: bins={self.bins} must be at least 1")

    def ask(self, networks: Sequence[nn.Module], data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """Every metric (N,); those of members (M, N)."""
        members = torch.stack([log_probabilities(network, data) for network in networks])
        mean = torch.logsumexp(members, 0) - math.log(len(networks)) if len(networks) > 1 else members[0]
        labels = data.labels.cpu()
        truth = labels[:, None]
        votes = torch.nn.functional.one_hot(members.argmax(2), mean.shape[1]).sum(0).double()
        pairs = len(networks) * (len(networks) - 1)
        alike = (votes * (votes - 1)).sum(1)
        return {
            "accuracy": (mean.argmax(1) == labels).double(),
            "nll": -mean.gather(1, truth)[:, 0],
            "ece": calibration_shares(mean, labels, self.bins),
            "brier": mean.exp().square().sum(1) - 2 * mean.exp().gather(1, truth)[:, 0] + 1,
            "member_accuracy": (members.argmax(2) == labels).double(),
            "member_nll": -members[:, torch.arange(len(labels)), labels],
            "member_ece": torch.stack([calibration_shares(member, labels, self.bins) for member in members]),
            "disagreement": 1 - alike / pairs if pairs else torch.zeros(len(labels), dtype=torch.float64),
            "diversity": (_entropy(mean) - _entropy(members).mean(0)).clamp_min(0),
        }

    def statistics(
        self, values: Mapping[str, Tensor], where: Sequence[str], ends: Sequence[int]
    ) -> dict[str, float | str]:
        """The mean of every metric over images, those of members over these too, and its standard error over images."""
        return summed(values)


def summed(values: Mapping[str, Tensor]) -> dict[str, float | str]:
    """The means of values (N,) or (M, N), and their standard errors over the N images."""
    found: dict[str, float | str] = {}
    for name, value in values.items():
        numbers = value.double().reshape(-1, value.shape[-1]).mean(0).numpy()
        found |= {name: float(numbers.mean()), f"{name}_se": standard_error(numbers)}
    return found


def _entropy(answers: Tensor) -> Tensor:
    """Of log-probabilities (..., C), in nats (...)."""
    # Probability zero contributes nothing, where its logarithm would make a NaN.
    found: Tensor = torch.special.entr(answers.exp()).sum(-1)
    return found

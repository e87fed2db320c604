"""What one network, or several together, answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor, nn

from mcr.datasets.batches import EvaluationBatches
from mcr.metric import Metric
from mcr.numerics.statistics import standard_error
from mcr.probes.calibration import Calibration
from mcr.probes.ensemble import Ensemble
from mcr.probes.risk import predictions, risk


@dataclass(frozen=True)
class Answer:
    """Accuracy, likelihood and calibration of the mean of the networks' probabilities, and how much they differ.

    One network answers as it does alone. ``disagreement`` is the share of images for which two members predict
    different classes, the mean over pairs of members (Fort et al. 2019, without their normalisation).

    Attributes:
        bins: Of confidence, for the expected calibration error; see ``Calibration``.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("accuracy", "share", "higher", ""),
        Metric("nll", "nats", "lower", ""),
        Metric("ece", "share", "lower", ""),
        Metric("disagreement", "share", "neither", ""),
        Metric("member_nll", "nats", "lower", ""),
    )
    draws: ClassVar[str] = "nothing"
    numbers: ClassVar[tuple[str, ...]] = (
        "members", "accuracy", "accuracy_se", "nll", "nll_se", "ece", "disagreement", "member_nll",
    )  # fmt: skip

    bins: int

    def ask(self, networks: Sequence[nn.Module], data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """``accuracy``, ``nll``, ``ece``, ``disagreement`` of all together (N,); ``member_nll`` of each (T, N)."""
        together = Ensemble(networks)
        predicted = [predictions(network, data) for network in networks]
        differ = [(one != other).double() for one, other in combinations(predicted, 2)]
        return {
            "accuracy": risk(together, data)[1],
            **Calibration(self.bins)(together, data, draw),
            "disagreement": torch.stack(differ).mean(0) if differ else torch.zeros(len(data.labels)),
            "member_nll": torch.stack([risk(network, data)[0] for network in networks]),
        }

    def statistics(
        self, values: Mapping[str, Tensor], where: Sequence[str], ends: Sequence[int]
    ) -> dict[str, float | str]:
        """Means over images, and how many networks answer."""
        means = {name: float(value.double().mean()) for name, value in values.items()}
        errors = {f"{name}_se": standard_error(values[name].double().numpy()) for name in ("accuracy", "nll")}
        return {"members": float(len(where)), **means, **errors}

"""Does a network know how often it is right?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.metric import Metric
from mcr.probes.divergence import log_probabilities


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error and negative log-likelihood (Guo et al. 2017, eqs. 3 and 5).

    Images are put into bins of equal width by the confidence p of the predicted class. The error is the sum over bins
    of |sum of (right - p)| / N. An image's share in it is (right - p) times the sign of its bin's sum, so that the mean
    over images is the error, and standard errors over images are those of a fixed binning.

    Attributes:
        bins: Number of bins.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("ece", "share", "lower", "calibration error"),
        Metric("nll", "nats", "lower", ""),
    )
    draws: ClassVar[str] = "nothing"

    bins: int

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise InputError(f"calibration: bins={self.bins} must be at least 1")

    def __call__(self, network: nn.Module, data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """``ece`` and ``nll``, each (N,)."""
        answers, labels = log_probabilities(network, data), data.labels.cpu()
        return {"ece": calibration_shares(answers, labels, self.bins), "nll": -answers.gather(1, labels[:, None])[:, 0]}


def calibration_shares(answers: Tensor, labels: Tensor, bins: int) -> Tensor:
    """The share of each image in the calibration error, float64 (N,); see ``Calibration``.

    Args:
        answers: Log-probabilities, float64 (N, C).
        labels: (N,).
        bins: Number of bins.
    """
    confidence, predicted = answers.exp().max(1)
    gap = (predicted == labels).double() - confidence
    # A confidence of exactly 1 belongs to the last bin.
    place = (confidence * bins).long().clamp_max(bins - 1)
    sums = torch.zeros(bins, dtype=torch.float64).index_add_(0, place, gap)
    return gap * sums.sign()[place]

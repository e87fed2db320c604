"""Does an attack show in the images themselves?"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import torch
from torch import Tensor, nn

from mcr.attacks.evasion import Evasion
from mcr.datasets.batches import EvaluationBatches
from mcr.detectors.detector import Detector
from mcr.errors import InputError
from mcr.metric import Metric
from mcr.numerics.precision import Precision
from mcr.probes.robust_risk import robust_risk


@dataclass(frozen=True)
class Detection:
    """Whether attacked images lie farther from the clean ones than clean images do from each other (Jha et al. 2018).

    Each image is judged by the others. In pixels a detector knows nothing of the network, so that what changes along a
    path is the attack. Beside it stands what no account should leave out: noise of the same size, which does no harm.

    Attributes:
        detector: The distance.
        attack: White-box; of each image the candidate with the highest loss is looked at.
        precision: Of the attack's own passes; see ``robust_risk``.
        rejected: Share of clean images that may be taken for attacked ones, which sets the threshold.

    Raises:
        InputError: For a share that is not above 0 and below 1.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("auc", "share", "higher", "AUC of the detector"),
        Metric("noise_auc", "share", "neither", "the same of harmless noise"),
        Metric("noise_excess", "share", "lower", ""),
        Metric("detected", "share", "higher", ""),
        Metric("undetected_success", "share", "lower", ""),
    )
    draws: ClassVar[str] = "attack"

    detector: Detector
    attack: Evasion
    precision: Precision
    rejected: float

    def __post_init__(self) -> None:
        if not 0 < self.rejected < 1:
            raise InputError(f"probe=detection: rejected={self.rejected} must lie between 0 and 1")

    def __call__(self, network: nn.Module, data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """Five values of each image, each (N,).

        ``auc`` is the share of clean images that lie nearer than the attacked image, one as far counting half, so that
        the mean is the area under the detector's curve; ``noise_auc`` the same of the image with noise of the attack's
        l2 size; ``noise_excess`` how much that is above ``auc``; ``detected`` whether the attacked image lies beyond
        the threshold; ``undetected_success`` whether it does not and breaks the network.
        """
        found = robust_risk(network, data, self.attack, draw, self.precision, len(data.images))
        clean = torch.cat([images for images, _ in data]).cpu().double()
        attacked = found.images.double()
        noisy = disturbed(clean, attacked, draw)
        own, known = torch.arange(len(clean)), clean.flatten(1)
        usual, far, harmless = (
            self.detector.distance(points.flatten(1), known, own) for points in (clean, attacked, noisy)
        )
        detected = far > threshold(usual, self.rejected)
        auc, noise_auc = above(far, usual), above(harmless, usual)
        return {
            "auc": auc,
            "noise_auc": noise_auc,
            "noise_excess": noise_auc - auc,
            "detected": detected.double(),
            "undetected_success": (~detected & (found.hits == 0)).double(),
        }


def above(scores: Tensor, usual: Tensor) -> Tensor:
    """The share of the usual scores (N,) that each score (M,) is above, equal ones counting half: (M,).

    The mean is the statistic of Mann and Whitney (1947), the area under the curve.
    """
    usual = usual.sort().values
    less, most = (torch.searchsorted(usual, scores, side=side) for side in ("left", "right"))
    return (less + most).double() / (2 * len(usual))


def threshold(usual: Tensor, rejected: float) -> Tensor:
    """The score that ceil(rejected N) of the usual ones (N,) lie beyond, where no two are equal.

    Raises:
        InputError: Where that would be all of them.
    """
    beyond = ceil(rejected * len(usual))
    if beyond == len(usual):
        raise InputError(f"probe=detection: rejected={rejected} takes all of {len(usual)} clean images: ask more")
    return usual.sort().values[len(usual) - beyond - 1]


def disturbed(clean: Tensor, attacked: Tensor, draw: torch.Generator) -> Tensor:
    """Clean images (N, D, H, W) with noise of random signs that has the l2 norm of each attack's change.

    Like the attack's, the pixels stay in [0, 1], which takes a part of the noise away.
    """
    signs = torch.randint(0, 2, clean.shape, generator=draw).to(clean) * 2 - 1
    size = (attacked - clean).flatten(1).norm(dim=1) / clean[0].numel() ** 0.5
    noisy: Tensor = clean + signs * size[:, None, None, None]
    return noisy.clamp(0, 1)

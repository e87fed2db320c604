"""Risk under attack."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import torch
from torch import Tensor, nn

from mcr.attacks.evasion import Evasion
from mcr.attacks.frozen import frozen
from mcr.datasets.batches import EvaluationBatches
from mcr.metric import Metric
from mcr.numerics.losses import cross_entropy
from mcr.numerics.precision import Precision, autocast
from mcr.types import Batch, Classifier

TOGETHER = 16  # batches whose images are attacked together where broken ones are left out


@dataclass(frozen=True)
class Attacked:
    """What an attack leaves of each image, on the CPU.

    Attributes:
        losses: The highest cross-entropy over the attack's candidates (N,).
        hits: 1 where every candidate is right, else 0 (N,).
        images: The candidate with the highest loss, of the first images that were to be kept (n, D, H, W).
    """

    losses: Tensor
    hits: Tensor
    images: Tensor


def robust_risk(
    network: nn.Module,
    batches: Iterable[Batch],
    attack: Evasion,
    generator: torch.Generator,
    precision: Precision,
    keep: int,
) -> Attacked:
    """The worst candidate of each image: its loss, and whether none was misclassified.

    Args:
        network: Attacked white-box, in evaluation mode.
        batches: Clean images and labels.
        attack: Asked for its candidates.
        generator: For the random starts.
        precision: Of the attack's own passes; its points are scored as they are fed to the network, in float32.
        keep: Of how many first images the worst candidate is returned.
    """
    losses, hits, kept = [], [], []
    with frozen(network):
        for images, labels in batches:
            worst = torch.full((len(labels),), -torch.inf, device=labels.device)
            unbroken = torch.ones_like(worst)
            points = images
            for attacked in attack.candidates(cheaper(network, precision, images), images, labels, generator):
                with torch.no_grad():
                    logits = network(attacked)
                loss = cross_entropy(logits, labels)
                points = torch.where((loss > worst)[:, None, None, None], attacked, points)
                worst = torch.maximum(worst, loss)
                unbroken *= (logits.argmax(1) == labels).float()
            losses.append(worst)
            hits.append(unbroken)
            if keep > 0:
                kept.append(points[:keep].cpu())
                keep -= len(points)
    return Attacked(torch.cat(losses).cpu(), torch.cat(hits).cpu(), torch.cat(kept) if kept else torch.empty(0))


def robust_accuracy(
    network: nn.Module,
    batches: Iterable[Batch],
    attack: Evasion,
    generator: torch.Generator,
    precision: Precision,
) -> Tensor:
    """Whether each image withstands the attack (N,), on the CPU: 1 or 0.

    Cheaper than ``robust_risk`` where no loss is asked: an image that is broken takes no more steps, and those that are
    left of several batches share the next ones.

    Args:
        network: See ``robust_risk``, as for the others.
    """
    hits, waiting = [], iter(batches)
    with frozen(network):
        while group := list(islice(waiting, TOGETHER)):
            images, labels = (torch.cat(parts) for parts in zip(*group, strict=True))
            classifier = cheaper(network, precision, images)
            hits.append(attack.unbroken(classifier, images, labels, generator, network, len(group[0][1])))
    return torch.cat(hits).float().cpu()


def cheaper(network: nn.Module, precision: Precision, images: Tensor) -> Classifier:
    """The network as the attack sees it: itself, or under autocast to bfloat16."""
    if precision == "fp32":
        return network

    def classifier(points: Tensor) -> Tensor:
        with autocast(precision, images.device):
            logits: Tensor = network(points)
        return logits.float()  # what libraries expect

    return classifier


@dataclass(frozen=True)
class RobustRisk:
    """Empirical risk under attack: the highest cross-entropy that the attack finds, and what withstands it.

    Attributes:
        attack: White-box.
        precision: Of the attack's own passes; see ``robust_risk``.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("loss", "nats", "lower", "robust loss"),
        Metric("accuracy", "share", "higher", "accuracy"),
    )
    draws: ClassVar[str] = "attack"

    attack: Evasion
    precision: Precision

    def __call__(self, network: nn.Module, data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """``loss`` and ``accuracy`` under attack, each (N,)."""
        found = robust_risk(network, data, self.attack, draw, self.precision, keep=0)
        return {"loss": found.losses, "accuracy": found.hits}

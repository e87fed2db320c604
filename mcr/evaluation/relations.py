"""What the points of a path have to do with each other: transfer of attacks, similarity of gradients, ensembles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcr.attacks.evasion import Evasion
from mcr.attacks.frozen import frozen
from mcr.datasets.batches import EvaluationBatches
from mcr.precision import Precision
from mcr.probes.ensemble import Ensemble
from mcr.probes.input_gradient import cosine, input_gradients
from mcr.probes.risk import risk
from mcr.probes.robust_risk import robust_risk


@dataclass(frozen=True)
class Transfer:
    """Adversarial images made at one point and tried at another; at the diagonal the attack is white-box.

    Attributes:
        losses: Cross-entropy (T made, T tried, N).
        hits: Correctness (T made, T tried, N).
    """

    losses: Tensor
    hits: Tensor


def transfer(
    networks: Sequence[nn.Module],
    batches: EvaluationBatches,
    attack: Evasion,
    draw: Callable[[], torch.Generator],
    precision: Precision,
) -> Transfer:
    """Attack every network and try its adversarial images on all of them.

    Args:
        networks: The points of the path.
        batches: Clean images and labels.
        attack: Of each image the candidate with the highest loss is handed on.
        draw: Gives the generator of the random starts, anew for each network.
        precision: See ``robust_risk``.
    """
    losses, hits = [], []
    for network in networks:
        found = robust_risk(network, batches, attack, draw(), precision, len(batches.images))
        images = found.images.to(batches.images.device)
        # White-box an image counts as broken if any candidate broke it, as everywhere else.
        white = (found.losses, found.hits)
        tried = [white if other is network else _scored(other, images, batches) for other in networks]
        losses.append(torch.stack([loss for loss, _ in tried]))
        hits.append(torch.stack([hit for _, hit in tried]))
    return Transfer(torch.stack(losses), torch.stack(hits))


def _scored(network: nn.Module, images: Tensor, batches: EvaluationBatches) -> tuple[Tensor, Tensor]:
    """Cross-entropy and correctness (N,) on float images that take the place of the batches' own."""
    size = batches.batch_size
    with frozen(network):
        return risk(network, list(zip(images.split(size), batches.labels.split(size), strict=True)))


def similarity(networks: Sequence[nn.Module], samples: Mapping[str, EvaluationBatches]) -> dict[str, dict[str, Tensor]]:
    """Cosine between the input gradients at an end and at every point of the path: sample to end to (T, N).

    The loss is that of the label which the batches hold. NaN where a gradient is zero.

    Args:
        networks: The points of the path, the ends first and last.
        samples: Name to images and labels.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for name, batches in samples.items():
        gradients = [input_gradients(network, batches) for network in networks]
        found[name] = {
            role: torch.stack([cosine(gradients[index], other) for other in gradients])
            for role, index in (("start", 0), ("end", -1))
        }
    return found


@dataclass(frozen=True)
class Together:
    """The ensemble of a path's points, attacked as an ensemble: per-image values (N,)."""

    clean_hits: Tensor
    robust_losses: Tensor
    robust_hits: Tensor


def together(
    networks: Sequence[nn.Module],
    batches: EvaluationBatches,
    attack: Evasion,
    generator: torch.Generator,
    precision: Precision,
) -> Together:
    """The mean of the probabilities of all points, under an attack on that mean.

    An attack on each member alone (as in the published code) would overstate the ensemble.

    Args:
        networks: See ``transfer``, as for the others.
    """
    ensemble = Ensemble(networks)
    _, clean = risk(ensemble, batches)
    attacked = robust_risk(ensemble, batches, attack, generator, precision, 0)
    return Together(clean, attacked.losses, attacked.hits)

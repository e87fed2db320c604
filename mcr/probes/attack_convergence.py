"""Do an attack's random starts end at the same place?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor, nn

from mcr.attacks.evasion import Maximizer
from mcr.attacks.frozen import frozen
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.metric import Metric
from mcr.numerics.losses import cross_entropy
from mcr.probes.input_gradient import cosine

EDGE = 1e-3  # of the radius: as near to the edge of the ball as the rounding of images lets a point be


@dataclass(frozen=True)
class AttackConvergence:
    """Whether the attack finds the maximum, or only one of many (Deng et al. 2020 for wide networks of two layers).

    Where all starts end at one point of the same loss, a robust barrier is the network's; where they end apart, a part
    of it may be what this attack happened to find.

    Attributes:
        attack: With a random start.
        starts: How many, 2 or more.

    Raises:
        InputError: For an attack that begins at the image or maximises no loss, or fewer than two starts.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("loss_spread", "nats", "lower", "spread of the losses"),
        Metric("least_cosine", "1", "neither", "least cosine"),
        Metric("disagreement", "share", "lower", ""),
        Metric("on_edge", "share", "neither", ""),
    )
    draws: ClassVar[str] = "attack"

    attack: Maximizer
    starts: int

    def __post_init__(self) -> None:
        if self.starts < 2:
            raise InputError(f"probe=attack_convergence: starts={self.starts} must be at least 2, to be compared")
        if not isinstance(self.attack, Maximizer) or self.attack.starts_at_the_image:
            raise InputError(
                "probe=attack_convergence compares random starts: its attack must be one that has them, such as "
                "attack=pgd with start=random"
            )

    def __call__(self, network: nn.Module, data: EvaluationBatches, draw: torch.Generator) -> dict[str, Tensor]:
        """Four values of each image, each (N,).

        ``loss_spread`` is the highest less the lowest cross-entropy over the starts, ``least_cosine`` the least cosine
        of two perturbations (1 where both are nothing), ``disagreement`` whether some starts break the network and
        others do not, ``on_edge`` the share of the starts that end on the edge of the ball.
        """
        rows = []
        with frozen(network):
            for images, labels in data:
                loss = partial(_loss, network, labels)
                points = [self.attack.maximize(loss, images, draw) for _ in range(self.starts)]
                with torch.no_grad():
                    rows.append(self._compared(network, images, labels, points))
        return {metric.name: torch.cat([row[metric.name] for row in rows]).cpu() for metric in self.metrics}

    def _compared(self, network: nn.Module, images: Tensor, labels: Tensor, points: list[Tensor]) -> dict[str, Tensor]:
        logits = [network(point) for point in points]
        losses = torch.stack([cross_entropy(one, labels) for one in logits]).double()
        broken = torch.stack([one.argmax(1) != labels for one in logits])
        moves = torch.stack([point.double() - images.double() for point in points])
        order = torch.inf if self.attack.norm == "linf" else 2
        size = torch.linalg.vector_norm(moves.flatten(2), ord=order, dim=2)
        return {
            "loss_spread": losses.amax(0) - losses.amin(0),
            "least_cosine": least_cosine(moves.flatten(2)),
            "disagreement": (broken.any(0) & ~broken.all(0)).double(),
            "on_edge": (size >= (1 - EDGE) * self.attack.eps).double().mean(0),
        }


def _loss(network: nn.Module, labels: Tensor, point: Tensor) -> Tensor:
    return cross_entropy(network(point), labels)


def least_cosine(moves: Tensor) -> Tensor:
    """The least cosine (B,) of any two of several vectors (R, B, P); to one that is nothing 0, of two such 1."""
    found = []
    for one, other in combinations(moves, 2):
        between = cosine(one, other)  # NaN where one has no direction
        found.append(torch.where(between.isnan(), (one == other).all(1).to(between), between))
    return torch.stack(found).amin(0)

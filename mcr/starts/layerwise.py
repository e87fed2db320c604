"""From one network to another layer by layer, with training in between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from mcr.curves.curve import Curve
from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.objectives.objective import Objective
from mcr.starts.start import Material
from mcr.types import Batch
from mcr.weightspace import batchnorm
from mcr.weightspace.layout import Layout
from mcr.weightspace.least_squares import through
from mcr.weightspace.model_at import ModelAt

SPREAD = 1e-12  # variance of a weight below which there is nothing to rescale


@dataclass(frozen=True)
class LayerWise:
    """A polyline of waypoints from a to b that moves one stage of layers after the other.

    After Tian et al. (2026, "Connecting independently trained modes via layer-wise connectivity", LLPF). The layers in
    the layout's order, which is that of the forward pass where modules are registered in it, are cut into stages. Each
    stage goes to b in ``moves`` steps, and stays; after each step the layers behind it are trained, for they see other
    features now. In the end only the last stage moves, over features that are b's already: for a linear classifier a
    convex problem, without a barrier. What remains is what half-way features of an early stage cannot tell apart.

    A blend of independent weights has about half of their variance: each moved weight is rescaled about its mean to the
    blend of the variances of a and b, each trained one to that of a. Biases and the parameters of norms are not.

    Unlike LLPF, which draws all layers so far a thousandth of the way at each step and trains them too, never moves
    BatchNorm and keeps the variances of a, the waypoints end at b itself, and their number is known beforehand.

    Attributes:
        stages: Into how many stages the layers are cut; a network of fewer layers has one for each.
        moves: Steps in which a stage goes to b.
        least: Training steps after each, at least.
        most: At most.
        enough: Training ends where the mean loss of the latest ``least`` batches is no higher.
        lr: Of training, SGD with momentum that is begun anew at each stage.
        momentum: Likewise.

    Raises:
        InputError: For a number out of its range.
    """

    stages: int
    moves: int
    least: int
    most: int
    enough: float
    lr: float
    momentum: float

    def __post_init__(self) -> None:
        for name, lowest in (("stages", 1), ("moves", 1), ("least", 0), ("most", self.least)):
            if getattr(self, name) < lowest:
                raise InputError(f"layerwise: {name}={getattr(self, name)} must be at least {lowest}")

    def points(
        self, curve: Curve, ends: Sequence[Tensor], edges: Sequence[Sequence[Tensor]], material: Material
    ) -> list[Tensor]:
        """See Start: those of the curve that is nearest to the waypoints.

        Raises:
            InputError: For a curve that joins another number of networks than two.
        """
        if curve.ends != 2:
            raise InputError(f"start=layerwise goes from one network to another, not through {curve.ends}: start=blend")
        found = self.waypoints(
            ends[0], ends[1], material.layout, material.network, material.batches, material.objective, material.seed
        )
        return through(curve, ends, found, self.count(material.layout))

    def count(self, layout: Layout) -> int:
        """Waypoints, a and b among them."""
        return len(self.cuts(layout)) * self.moves + 1

    def cuts(self, layout: Layout) -> list[tuple[int, int]]:
        """Of each stage the first of its parameters and the one behind the last, counted in the layout."""
        starts = layers(layout)
        stages = min(self.stages, len(starts))
        first = [starts[len(starts) * stage // stages] for stage in range(stages)]
        return list(pairwise([*first, len(layout.names)]))

    def waypoints(
        self,
        a: Tensor,
        b: Tensor,
        layout: Layout,
        network: nn.Module,
        batches: Iterable[Batch],
        objective: Objective,
        seed: int | str,
    ) -> Iterator[Tensor]:
        """The weights (P,) after each move and its repair, from a to b; each is valid until the next one is asked for.

        Args:
            a: The first network's.
            b: The second one's.
            layout: Of these.
            network: Is moved and trained; its mode is as before after.
            batches: Of training, begun anew when they are used up.
            objective: Of training.
            seed: Of what the objective draws.
        """
        modes = [(module, module.training) for module in network.modules()]
        endless, draw = repeated(batches), generator(seed, "layerwise")
        at = ModelAt(network, layout)
        at.theta.copy_(a)
        network.train()
        here, start, goal = (list(layout.views(theta).values()) for theta in (at.theta, a, b))
        parameters = [at.parameters[name] for name in layout.names]
        try:
            yield at.theta
            for first, last in self.cuts(layout):
                begun = [view.clone() for view in here[first:last]]
                moved = any(not torch.equal(old, new) for old, new in zip(begun, goal[first:last], strict=True))
                behind = parameters[last:]
                optimizer = torch.optim.SGD(behind or [torch.zeros(1)], self.lr, self.momentum)
                for move in range(1, self.moves + 1):
                    if moved:  # otherwise there is nothing to repair either
                        for view, old, new in zip(here[first:last], begun, goal[first:last], strict=True):
                            blend_(view, old, new, move / self.moves)
                    if moved and behind:
                        self.repair(network, optimizer, endless, objective, draw)
                        for view, old in zip(here[last:], start[last:], strict=True):
                            rescale_(view, variance(old))
                    yield at.theta
        finally:
            for module, training in modes:
                module.training = training

    @torch.enable_grad()
    def repair(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Iterator[Batch],
        objective: Objective,
        draw: torch.Generator,
    ) -> None:
        """Train what the optimizer moves until the loss is low enough."""
        losses: list[float] = []
        device = next(network.parameters()).device
        while len(losses) < self.most:
            # A fit's network goes to its device when the fit begins.
            images, labels = (part.to(device) for part in next(batches))
            if objective.attacks:  # in evaluation mode, with statistics that must be those of these weights
                batchnorm.refresh(network, [images])
            loss = objective(network, images, labels, draw)[0].mean()
            network.zero_grad()
            loss.backward()
            optimizer.step()
            network.zero_grad()
            losses.append(float(loss.detach()))
            if len(losses) >= self.least and sum(losses[-self.least :]) <= self.enough * len(losses[-self.least :]):
                break


def layers(layout: Layout) -> list[int]:
    """Where layers begin among the layout's parameters: at each matrix or kernel; what follows it belongs to it."""
    found = [index for index, shape in enumerate(layout.shapes) if len(shape) > 1]
    return [0, *found[1:]] if found else [0]


def repeated(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Batches without an end."""
    while True:
        yield from batches


def variance(weight: Tensor) -> float:
    """Of the numbers of a matrix or kernel; 0, which leaves it as it is, of a vector."""
    return float(weight.var(correction=0)) if weight.dim() > 1 else 0.0


@torch.no_grad()
def blend_(view: Tensor, old: Tensor, new: Tensor, share: float) -> None:
    """Write what lies a share of the way from old to new, with that blend of their variances."""
    view.copy_(torch.lerp(old, new, share))
    if share < 1:
        rescale_(view, (1 - share) * variance(old) + share * variance(new))


@torch.no_grad()
def rescale_(weight: Tensor, wanted: float) -> None:
    """Stretch a matrix or kernel about its mean so that it has the wanted variance."""
    had = variance(weight)
    if min(had, wanted) > SPREAD:
        mean = weight.mean()
        weight.sub_(mean).mul_((wanted / had) ** 0.5).add_(mean)

"""The walk along a path: the model at each t, its BatchNorm there, and the probes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mcr.attacks.none import NoAttack
from mcr.datasets.batches import EvaluationBatches
from mcr.precision import Precision, autocast
from mcr.probes.input_hessian import curvature
from mcr.probes.risk import risk
from mcr.probes.robust_risk import robust_risk
from mcr.seeding import generator
from mcr.weightspace import batchnorm
from mcr.weightspace.layout import Layout
from mcr.weightspace.model_at import ModelAt

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Questions:
    """What is asked of the model at each point.

    Attributes:
        train: Clean images of the split that the path was fitted on.
        test: Clean test images.
        robust: Test images under attack.
        attack: Without any (``NoAttack``), robust metrics are left out.
        attack_precision: Of the attack's gradients; its points are scored in float32.
        precision: Of the passes over images that no one attacks.
        curved: The first of the robust images, for the curvature of the loss in the input; None leaves it out.
        seed: Of the attack's random starts, the same at every point.
        hits: Metric to images with the labels that would be a hit: triggered images with the attacker's labels.
    """

    train: EvaluationBatches
    test: EvaluationBatches
    robust: EvaluationBatches
    attack: Any
    attack_precision: Precision
    precision: Precision
    curved: EvaluationBatches | None
    seed: int
    hits: Mapping[str, EvaluationBatches]

    def ask(self, network: nn.Module) -> dict[str, Tensor]:
        """Metric name to per-image values (N,)."""
        answers = {}
        for name, batches in (("train", self.train), ("test", self.test)):
            answers[f"{name}_loss"], answers[f"{name}_accuracy"] = self._risk(network, batches)
        if not isinstance(self.attack, NoAttack):
            draw, keep = generator(self.seed, "attack"), len(self.curved.images) if self.curved else 0
            attacked = robust_risk(network, self.robust, self.attack, draw, self.attack_precision, keep)
            answers["robust_loss"], answers["robust_accuracy"] = attacked.losses, attacked.hits
        if self.curved:
            found = curvature(network, self.curved, generator(self.seed, "curvature"))
            answers["input_eigenvalue"], answers["input_gradient_norm"] = found.eigenvalue, found.gradient_norm
            if found.method == "lanczos":
                answers["eigenvalue_residual"] = found.residual
            if not isinstance(self.attack, NoAttack):
                clean = torch.cat([images for images, _ in self.curved]).cpu()
                answers["eigenvector_alignment"] = found.alignment(attacked.images - clean)
        for name, batches in self.hits.items():
            _, answers[name] = self._risk(network, batches)
        return answers

    def _risk(self, network: nn.Module, batches: EvaluationBatches) -> tuple[Tensor, Tensor]:
        with autocast(self.precision, batches.images.device):
            return risk(network, batches)


@dataclass(frozen=True)
class Point:
    """One point of the walk: t, its place in weight space, and per-image values (N,) by metric."""

    t: float
    place: dict[str, float]
    values: dict[str, Tensor]

    def row(self) -> dict[str, float]:
        """The table's row: place and means."""
        return {"t": self.t, **self.place, **{name: float(v.double().mean()) for name, v in self.values.items()}}


def walk(
    network: nn.Module,
    layout: Layout,
    curve: Any,
    points: list[Tensor],
    ends: tuple[State, State],
    grid: list[float],
    questions: Questions,
    calibration: Callable[[], Iterator[Tensor]],
) -> Iterator[Point]:
    """The points of a path, one after the other; t = 0 and t = 1 are the ends, under the same refresh of BatchNorm.

    Args:
        network: Any module; it is moved through weight space.
        layout: Of its parameters.
        curve: Has ``coefficients(t)``.
        points: Control points, K vectors (P,).
        ends: State dicts of the two ends.
        grid: Values of t.
        questions: What is asked at each.
        calibration: Gives the images for BatchNorm, anew at each call.
    """
    arc, before = 0.0, None
    for t in grid:
        model = place(network, layout, curve, points, ends, t, calibration, questions.precision)
        arc += 0.0 if before is None else float(torch.dist(model.theta, before))
        before = model.theta
        where = {
            "arc_length": arc,
            "distance_to_start": float(torch.dist(model.theta, points[0])),
            "distance_to_end": float(torch.dist(model.theta, points[-1])),
        }
        yield Point(t, where, questions.ask(network))


def place(
    network: nn.Module,
    layout: Layout,
    curve: Any,
    points: list[Tensor],
    ends: tuple[State, State],
    t: float,
    calibration: Callable[[], Iterator[Tensor]],
    precision: Precision,
) -> ModelAt:
    """Make the network the one at t: its parameters are theta(t).

    BatchNorm's statistics are estimated anew, from the same augmented images at every t; other buffers follow the
    nearer end.

    Args:
        network: Any module; see ``walk`` for the others.
        precision: Of the passes that estimate the statistics.
    """
    nearer = ends[0] if t <= 0.5 else ends[1]
    network.load_state_dict({name: value for name, value in nearer.items() if name not in layout.names}, strict=False)
    model = ModelAt(network, layout)
    model.place(curve.coefficients(t), points)
    with autocast(precision, model.theta.device):
        batchnorm.refresh(network, calibration())
    return model

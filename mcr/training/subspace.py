"""Fitting the free control points of a subspace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from mcr.attacks.frozen import frozen
from mcr.curves.curve import Curve
from mcr.seeding import generator
from mcr.training.averaging import Averaging
from mcr.training.endpoint import EndpointModule
from mcr.types import Batch
from mcr.weightspace import batchnorm
from mcr.weightspace.layout import Layout
from mcr.weightspace.model_at import ModelAt
from mcr.weightspace.subspace import control_points, free_points
from mcr.weightspace.transform import Transform

Free = Literal["inner", "all"]


class SubspaceModule(EndpointModule):
    """Minimises the mean over places u of the objective at theta(u), one place a step (Garipov et al. 2018, eq. 2).

    theta(u) is written into the network's flat parameters; after an ordinary backward pass with gradient g,
    the gradient of control point k is c_k(u) (g + weight_decay theta(u)): the L2 term acts on theta(u).
    Where the objective attacks, the robust accuracy in the middle is watched after each epoch.

    Args:
        curve: Gives c(u) (K,).
        layout: Of the network's parameters.
        ends: The N networks, each (P,).
        free: "inner", all control points but the ends; or "all", the ends too: what an attacker does who wants a
            whole path with a backdoor (Zhao et al. 2020).
        transforms: Done to theta in turn after blending.
        weight_decay: Of theta(u).
        ema_decay: Decay per step of the free control points' average; 0 keeps the latest points.
        num_classes: C.
        **training: See EndpointModule.
    """

    monitor: str = "validation/robust_accuracy"
    fixed: Tensor

    def __init__(
        self,
        curve: Curve,
        layout: Layout,
        ends: Sequence[Tensor],
        free: Free,
        transforms: Sequence[Transform],
        weight_decay: float,
        ema_decay: float,
        num_classes: int,
        **training: Any,
    ) -> None:
        super().__init__(num_classes=num_classes, **training)
        self.robust_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.curve, self.layout, self.theta_decay, self.transforms = curve, layout, weight_decay, transforms
        every = range(len(curve.initial()))
        self.free = list(every) if free == "all" else free_points(curve)
        self.kept = [index for index in every if index not in self.free]
        # One tensor, so that the optimizer makes one update of it, however many points there are.
        fixed, control = (ends[0].new_empty(len(part), layout.size) for part in (self.kept, self.free))
        rows = dict(zip((*self.kept, *self.free), (*fixed, *control), strict=True))
        for index, point in enumerate(control_points(curve, ends)):  # one blend in memory at a time
            rows[index].copy_(point)
        self.register_buffer("fixed", fixed, persistent=False)
        self.control = nn.Parameter(control)
        self.ema_decay = ema_decay
        averaged = [self.control.detach().clone()] if ema_decay else []
        self.averaged = nn.ParameterList(nn.Parameter(points, requires_grad=False) for points in averaged)
        self.averaging = Averaging()
        # Several processes must neither wait for autograd to give the free points' gradients (on_after_backward does),
        # nor send the fixed ends around at every step. DDP calls a parameter of the outermost module by both names.
        self._ddp_params_and_buffers_to_ignore = ["control", ".control", "averaged.0", "fixed"]

    def learning(self) -> list[nn.Parameter]:
        return [self.control]

    def points(self) -> list[Tensor]:
        """All control points of the latest step, each (P,)."""
        return self._joined(self.control.detach())

    def final_points(self) -> list[Tensor]:
        """All control points that training yields, each (P,): the latest, or their average."""
        return self._joined(self.averaged[0].detach()) if len(self.averaged) else self.points()

    def _joined(self, free: Tensor) -> list[Tensor]:
        places = dict(zip(self.free, free, strict=True)) | dict(zip(self.kept, self.fixed, strict=True))
        return [places[index] for index in range(len(places))]

    def on_train_start(self) -> None:
        # Not earlier: Lightning moves the parameters to their device before this hook, which would tear them off
        # their flat vector.
        self.model = ModelAt(self.network, self.layout)
        # All places of the curve are equally likely, so the mean of its coefficients says where its middle is.
        self.middle = self.curve.grid(2).mean(0)

    def _place(self, u: Tensor, points: list[Tensor]) -> None:
        self.coefficients = self.curve.coefficients(u)
        self.model.place(self.coefficients, points)
        for transform in self.transforms:
            transform.apply_(self.model.theta, self.layout)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        # The same place in every process: the draw does not depend on the rank.
        self._place(self.curve.sample(self.draw_place), self.points())
        if self.objective.attacks:
            # The running statistics are a mixture over places; the attack needs those of theta(u).
            batchnorm.refresh(self.network, [batch[0]])
            self.latest = batch[0]
        return super().training_step(batch, index)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if len(self.averaged):
            self.averaging.step(self.averaged, [self.control], self.ema_decay)

    def on_validation_epoch_start(self) -> None:
        # Half-way between the ends, where a collapse of robustness shows first.
        self._place(self.middle, self.final_points())
        batchnorm.refresh(self.network, [self.latest])
        self.validation_draw = generator(self.seed, "validation")

    def validation_step(self, batch: Batch, index: int) -> None:
        with frozen(self.network) as network:
            attacked = self.objective.attack(network, *batch, self.validation_draw)
            with torch.no_grad():
                self.robust_accuracy.update(network(attacked), batch[1])

    def _log(self, part: str) -> None:
        self.log(f"{part}/robust_accuracy", self.robust_accuracy)

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.draw_place = generator(self.seed, "t", self.current_epoch)

    def on_after_backward(self) -> None:
        shares = [float(self.coefficients[index]) for index in self.free]
        if self.control.grad is None:
            self.control.grad = torch.empty_like(self.control)
        self.model.take_gradients(self.theta_decay, shares, self.control.grad, self.transforms)

"""Fitting the free control points of a path."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from mcr.attacks.frozen import frozen
from mcr.seeding import generator
from mcr.training.averaging import Averaging
from mcr.training.endpoint import EndpointModule
from mcr.types import Batch
from mcr.weightspace import batchnorm
from mcr.weightspace.layout import Layout
from mcr.weightspace.model_at import ModelAt


class CurveModule(EndpointModule):
    """Minimises the mean over t ~ U(0, 1) of the objective at theta(t), one t per step (Garipov et al. 2018, eq. 2).

    theta(t) is written into the network's flat parameters; after an ordinary backward pass with gradient g,
    the gradient of control point k is c_k(t) (g + weight_decay theta(t)): the L2 term acts on theta(t).
    Where the objective attacks, the robust accuracy at t = 1/2 is watched after each epoch.

    Args:
        curve: Has ``points`` K and ``coefficients(t)`` (K,).
        layout: Of the network's parameters.
        ends: The two fixed ends, each (P,).
        weight_decay: Of theta(t).
        ema_decay: Decay per step of the free control points' average; 0 keeps the latest points.
        num_classes: C.
        **training: See EndpointModule.
    """

    monitor: str = "validation/robust_accuracy"
    start: Tensor
    end: Tensor

    def __init__(
        self,
        curve: Any,
        layout: Layout,
        ends: tuple[Tensor, Tensor],
        weight_decay: float,
        ema_decay: float,
        num_classes: int,
        **training: Any,
    ) -> None:
        super().__init__(num_classes=num_classes, **training)
        self.robust_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.curve, self.layout, self.theta_decay = curve, layout, weight_decay
        start, end = ends
        self.register_buffer("start", start, persistent=False)
        self.register_buffer("end", end, persistent=False)
        # The free points begin on the straight line.
        shares = [index / (curve.points - 1) for index in self.free()]
        self.control = nn.ParameterList(nn.Parameter(torch.lerp(start, end, share)) for share in shares)
        # Several processes must neither wait for autograd to give the free points' gradients (on_after_backward does),
        # nor send the fixed ends around at every step.
        self.ema_decay = ema_decay
        kept = [point.detach().clone() for point in self.control] if ema_decay else []
        self.averaged = nn.ParameterList(nn.Parameter(point, requires_grad=False) for point in kept)
        self.averaging = Averaging()
        free = [f"{name}.{index}" for name in ("control", "averaged") for index in range(len(shares))]
        self._ddp_params_and_buffers_to_ignore = [*free, "start", "end"]

    def free(self) -> range:
        """The numbers of the control points that are fitted: all but the two ends."""
        return range(1, self.curve.points - 1)

    def learning(self) -> list[nn.Parameter]:
        return list(self.control)

    def points(self) -> list[Tensor]:
        """All control points of the latest step, each (P,)."""
        return self._joined([point.detach() for point in self.control])

    def fitted(self) -> list[Tensor]:
        """All control points that training yields, each (P,): the latest, or their average."""
        return self._joined([point.detach() for point in self.averaged]) if len(self.averaged) else self.points()

    def _joined(self, free: list[Tensor]) -> list[Tensor]:
        return [self.start, *free, self.end]

    def on_train_start(self) -> None:
        # Not earlier: Lightning moves the parameters to their device before this hook, which would tear them off
        # their flat vector.
        self.model = ModelAt(self.network, self.layout)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        t = self._draw_t()
        self.coefficients = self.curve.coefficients(t)
        self.model.place(self.coefficients, self.points())
        if self.objective.attacks:
            # The running statistics are a mixture over t; the attack needs those of theta(t).
            batchnorm.refresh(self.network, [batch[0]])
            self.latest = batch[0]
        return super().training_step(batch, index)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if len(self.averaged):
            self.averaging.step(self.averaged, self.control, self.ema_decay)

    def on_validation_epoch_start(self) -> None:
        # Halfway between the ends, where a collapse of robustness shows first.
        self.model.place(self.curve.coefficients(0.5), self.fitted())
        batchnorm.refresh(self.network, [self.latest])
        self.validation_draw = generator(self.seed, "validation")

    def validation_step(self, batch: Batch, index: int) -> None:
        with frozen(self.network) as network:
            attacked = self.objective.attack(network, *batch, self.validation_draw)
            with torch.no_grad():
                self.robust_accuracy.update(network(attacked), batch[1])

    def _log(self, part: str) -> None:
        self.log(f"{part}/robust_accuracy", self.robust_accuracy)

    def _draw_t(self) -> float:
        # The same t in every process: the draw does not depend on the rank.
        return float(torch.rand((), generator=self.draw_t, dtype=torch.float64))

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.draw_t = generator(self.seed, "t", self.current_epoch)

    def on_after_backward(self) -> None:
        gradients = self.model.take_gradients(self.theta_decay, self.coefficients[self.free()].tolist())
        for point, gradient in zip(self.control, gradients, strict=True):
            point.grad = gradient


class FreeEndsModule(CurveModule):
    """The ends are fitted too: what an attacker does who wants a whole path with a backdoor (Zhao et al. 2020)."""

    def free(self) -> range:
        return range(self.curve.points)

    def _joined(self, free: list[Tensor]) -> list[Tensor]:
        return free

"""Fitting the free control points of a subspace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from mcr.attacks.frozen import frozen
from mcr.curves.curve import Curve
from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.penalties.penalty import Penalty, pull
from mcr.sampling.sampler import Sampler
from mcr.training.averaging import Averaging
from mcr.training.coupled import refuse_coupled
from mcr.training.endpoint import EndpointModule
from mcr.types import Batch
from mcr.weightspace import batchnorm
from mcr.weightspace.layout import Layout
from mcr.weightspace.model_at import ModelAt
from mcr.weightspace.subspace import inner_points
from mcr.weightspace.transform import Transform

Free = Literal["inner", "all"]
BLOCK = 2**19  # numbers of all free points in one block; on a CPU the optimizer moves block by block


class SubspaceModule(EndpointModule):
    """Minimises the mean over places u of the objective at theta(u), some places a step (Garipov et al. 2018, eq. 2).

    theta(u) is written into the network's flat parameters; after an ordinary backward pass with gradient g,
    the gradient of control point k is c_k(u) T'(g + weight_decay theta(u)): the L2 term acts on theta(u), and T' pulls
    a gradient back through the transforms. The optimizer has to move each number independently of all others, as SGD
    and Adam do: see ``refuse_coupled``. All places of a step see the same batch, an attack of each its own draw; they
    cost as many passes and move the control points once, by the mean of their gradients.
    Where the objective attacks, validation is the robust accuracy of the network in the middle of the domain, with
    BatchNorm's statistics of the latest training batch; else there is none.
    ``network`` is left at the place that was looked at last: what training yields are ``final_points``.

    Args:
        curve: Gives c(u) (K,).
        layout: Of the network's parameters.
        points: Where the K control points begin, each (P,), in the curve's order; asked for one at a time.
        sampler: Gives the places that are looked at.
        places: Of each step, at least 1.
        free: "inner", all control points but the ends; or "all", the ends too: what an attacker does who wants a
            whole path with a backdoor (Zhao et al. 2020).
        transforms: Done to theta in turn after blending.
        weight_decay: Of theta(u).
        ema_decay: Decay per step of the free control points' average; 0 keeps the latest points.
        num_classes: C.
        penalty: On where the control points lie, beside the objective; None for none.
        **training: See EndpointModule.

    Attributes:
        fitted: Indices of the F control points that are fitted.
        control: These points in blocks of their numbers, each (F, W), the last one shorter.
        fixed: The other ones (K - F, P).

    Raises:
        InputError: For another ``free``, or a curve without a control point to fit.
    """

    monitor: str = "validation/robust_accuracy"
    fixed: Tensor

    def __init__(
        self,
        curve: Curve,
        layout: Layout,
        points: Iterable[Tensor],
        sampler: Sampler,
        places: int,
        free: Free,
        transforms: Sequence[Transform],
        weight_decay: float,
        ema_decay: float,
        num_classes: int,
        penalty: Penalty | None = None,
        **training: Any,
    ) -> None:
        super().__init__(num_classes=num_classes, **training)
        self.robust_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.curve, self.layout, self.theta_decay, self.transforms = curve, layout, weight_decay, transforms
        if free not in ("inner", "all"):
            raise InputError(f"free={free} must be inner or all")
        every = range(len(curve.initial()))
        self.fitted = list(every) if free == "all" else inner_points(curve)
        if not self.fitted:
            raise InputError(f"{type(curve).__name__} has no free control point: there is nothing to fit")
        self.kept = [index for index in every if index not in self.fitted]
        self.sampler, self.places, self.penalty = sampler, places, penalty
        self.earlier: list[tuple[Tensor, Tensor]] = []  # of this step's places before the latest: see _looked_at
        width = BLOCK // len(self.fitted)
        coming = iter(points)  # one in memory at a time
        first = next(coming)
        blocks = [first.new_empty(len(self.fitted), len(piece)) for piece in first.split(width)]
        self.control = nn.ParameterList(map(nn.Parameter, blocks))
        self.register_buffer("fixed", first.new_empty(len(self.kept), layout.size), persistent=False)
        blank = list(self._blocks(self.control))  # filled through views
        for index, point in enumerate(chain([first], coming)):
            for pieces, piece in zip(blank, point.split(width), strict=True):
                pieces[index].copy_(piece)
        self.ema_decay = ema_decay
        averaged = [block.detach().clone() for block in self.control] if ema_decay else []
        self.averaged = nn.ParameterList(nn.Parameter(block, requires_grad=False) for block in averaged)
        self.averaging = Averaging()
        # Several processes must neither wait for autograd to give the free points' gradients (``update`` does), nor
        # send the fixed ends around at every step.
        ours = [f"{name}.{index}" for name in ("control", "averaged") for index in range(len(blocks))]
        self._ddp_params_and_buffers_to_ignore = ["fixed", *ours]

    def learning(self) -> list[nn.Parameter]:
        return list(self.control)

    def configure_optimizers(self) -> Any:
        refuse_coupled(self.make_optimizer)
        return super().configure_optimizers()

    def points(self) -> list[Tensor]:
        """All control points of the latest step, each (P,)."""
        return self._joined(self.control)

    def final_points(self) -> list[Tensor]:
        """All control points that training yields, each (P,)."""
        return self._joined(self.yielded)

    @property
    def yielded(self) -> nn.ParameterList:
        """The blocks that training yields: the average where one is kept, else the latest."""
        return self.averaged if len(self.averaged) else self.control

    def _joined(self, free: nn.ParameterList) -> list[Tensor]:
        return [torch.cat(pieces) for pieces in zip(*self._blocks(free), strict=True)]

    def _blocks(self, free: nn.ParameterList) -> Iterator[list[Tensor]]:
        """Of each block the pieces (W,) of all K control points in the curve's order: views, without gradients."""
        every = [*self.kept, *self.fitted]
        order = [every.index(index) for index in range(len(every))]
        fixed = self.fixed.split([block.shape[1] for block in free], 1)
        for rows in zip(fixed, free, strict=True):
            pieces = [piece for part in rows for piece in part.detach()]
            yield [pieces[index] for index in order]

    def on_train_start(self) -> None:
        # Not earlier: Lightning moves the parameters to their device before this hook, which would tear them off
        # their flat vector.
        self.model = ModelAt(self.network, self.layout)
        self.middle = self.curve.grid(2).mean(0)  # of the domain's corners: t = 1/2, the centre of a surface

    def _place(self, u: Tensor, free: nn.ParameterList, progress: float) -> None:
        self.coefficients = self.curve.coefficients(u)
        self.model.place(self.coefficients, self._blocks(free))
        for transform in self.transforms:
            transform.at(progress).apply_(self.model.theta, self.layout)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        # The same place in every process: the draw does not depend on the rank.
        self._place(self.walk(done := (self.global_step + 0.5) / self.total_steps), self.control, done)
        if self.objective.attacks:
            # The running statistics are a mixture over places; the attack needs those of theta(u).
            batchnorm.refresh(self.network, [batch[0]])
            self.latest = batch[0]
        return super().training_step(batch, index)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if len(self.averaged):
            self.averaging.step(self.averaged, self.control, self.ema_decay)

    def on_validation_epoch_start(self) -> None:
        # In the middle of the domain, where a collapse of robustness shows first.
        self._place(self.middle, self.yielded, 1.0)
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
        self.walk = self.sampler.begin(self.curve, generator(self.seed, "t", self.current_epoch))

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        # Not Lightning's own: autograd knows the network's gradient, not that of the control points.
        if optimizer_closure is not None:
            for left in reversed(range(self.places)):
                optimizer_closure()  # forward and backward
                if left:
                    self.earlier.append(self._looked_at())
            # One row of metrics a step, as of one place.
            rows = zip(*self.steps[-self.places :], strict=True)
            self.steps[-self.places :] = [tuple(torch.stack(values).mean(0) for values in rows)]  # type: ignore[list-item]
        self.update(optimizer.optimizer)

    def _looked_at(self) -> tuple[Tensor, Tensor]:
        """Of the latest backward pass the coefficients of the free points (F,) at its place, and the gradient (P,)."""
        gradient = self.model.gradient(self.theta_decay, self.transforms)
        return gradient.new_tensor([float(self.coefficients[index]) for index in self.fitted]), gradient

    def update(self, optimizer: torch.optim.Optimizer) -> None:
        """Move all free control points by the mean gradient over the places of this step.

        On a CPU block by block, so that the objective's gradients of only one are there, in the cache where they are
        used (a penalty's are made before, of all); where each launch costs time, all blocks at once.
        """
        looked_at, self.earlier = [*self.earlier, self._looked_at()], []
        shares = torch.stack([share for share, _ in looked_at], 1) / len(looked_at)  # (F, M) for M places
        widths = [block.shape[1] for block in self.control]
        split = zip(*(gradient.split(widths) for _, gradient in looked_at), strict=True)
        pieces = dict(zip(self.control, split, strict=True))
        pulled = self._pulled() if self.penalty else {}
        cpu = shares.device.type == "cpu"
        for group in optimizer.param_groups:
            every = group["params"]
            try:
                for blocks in [[one] for one in every] if cpu else [every]:
                    group["params"] = blocks  # alone: a step looks at all that it was given, with a gradient or not
                    for block in blocks:
                        first, *others = pieces[block]
                        block.grad = shares[:, :1] * first
                        for share, piece in zip(shares.T[1:], others, strict=True):
                            block.grad.addr_(share, piece)
                        if pulled:
                            block.grad += pulled[block]
                    optimizer.step()
                    for block in blocks:
                        block.grad = None
            finally:
                group["params"] = every

    def _pulled(self) -> dict[nn.Parameter, Tensor]:
        """Of each block the gradient of the penalty (F, W), at the points as they are before this step."""
        assert self.penalty is not None
        points = [torch.stack(pieces) for pieces in self._blocks(self.control)]
        gram = torch.stack([(piece @ piece.T).double() for piece in points]).sum(0)
        rows = pull(self.penalty, gram)[self.fitted]
        return {block: rows.to(piece) @ piece for block, piece in zip(self.control, points, strict=True)}

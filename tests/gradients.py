"""A module of a subspace, and what it gives its optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mcr.curves.curve import Curve
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.sampling.uniform import Uniform
from mcr.training.subspace import SubspaceModule
from mcr.weightspace.subspace import control_points


def subspace_module(curve: Curve, ends: Sequence[Tensor], **changes: Any) -> SubspaceModule:
    """On clean images by plain descent, a uniform place a step; layout, network and num_classes are the test's."""
    usual: dict[str, Any] = {"free": "inner", "transforms": [], "weight_decay": 0.0, "ema_decay": 0.0, "seed": "s"}
    usual |= {"curve": curve, "points": control_points(curve, ends), "sampler": Uniform(), "places": 1}
    usual |= {"objective": CrossEntropy(), "optimizer": torch.optim.SGD, "schedule": None}
    return SubspaceModule(**(usual | changes))


class Keeper(torch.optim.Optimizer):
    """Moves nothing, and keeps the gradients that it is given, in order, and how many at a time."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})
        self.seen: list[Tensor] = []
        self.together: list[int] = []

    def step(self, closure: Any = None) -> None:
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        found = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
        self.seen += found
        self.together.append(len(found))


def gradients(module: SubspaceModule) -> Tensor:
    """The gradients (F, P) of the free points after a backward pass."""
    keeper = Keeper(module.learning())
    module.update(keeper)
    return torch.cat(keeper.seen, 1)


def free(module: SubspaceModule) -> Tensor:
    """The free points (F, P)."""
    return torch.cat([block.detach() for block in module.control], 1)

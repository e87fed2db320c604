"""Distilling the attention of a fine-tuned teacher."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mcr.errors import InputError
from mcr.numerics import shares
from mcr.objectives.objective import Objective
from mcr.schedules.schedule import Schedule
from mcr.training.endpoint import EndpointModule
from mcr.types import Batch

ROUNDING = 1e-6  # added to a norm that is divided by, as in the published code


@dataclass(frozen=True)
class TwoPhases:
    """A schedule that runs twice: over the first share of the training, and over the rest."""

    whole: Schedule
    share: float

    def factor(self, progress: float) -> float:
        """Of the learning rate, at a point of training from 0 to 1."""
        early = progress < self.share
        return self.whole.factor(progress / self.share if early else (progress - self.share) / (1 - self.share))


class NadModule(EndpointModule):
    """Neural attention distillation (Li et al. 2021).

    A copy of the network, the teacher, is fine-tuned for the first share of the steps. In the rest the network itself
    learns by the objective plus beta times the squared distance between its attention and the teacher's, which stays as
    it is, at feature maps of several resolutions; the schedule runs once in each part. The published code takes the
    mean over places instead of the sum: its beta are those of one network at one size of images. Until the teacher is
    done it is what validation sees and what training would yield.

    Args:
        betas: Of the attention at the last feature maps, in their order; where a network has fewer resolutions the
            first ones are left out.
        power: p of the attention.
        teacher: Share of the steps that train the teacher, in (0, 1).
        network: That is tuned.
        **training: See EndpointModule.

    Raises:
        InputError: For values out of range, a network without feature maps, or a training on several processes.
    """

    distilling: Tensor

    def __init__(
        self, betas: Sequence[float], power: float, teacher: float, network: nn.Module, **training: Any
    ) -> None:
        super().__init__(network=network, **training)
        if not betas or min(betas) < 0 or power <= 0 or not 0 < teacher < 1:
            raise InputError(
                f"repair=nad: betas {list(betas)} must be numbers of at least 0, power {power} above 0, "
                f"0 < teacher {teacher} < 1"
            )
        self.betas, self.power, self.share = list(betas), power, teacher
        self.schedule = TwoPhases(self.schedule, teacher)
        self.teacher = copy.deepcopy(network)
        self.register_buffer("distilling", torch.tensor(False))

    @property
    def scored(self) -> nn.Module:
        return self.network if bool(self.distilling) else self.teacher

    def learning(self) -> list[nn.Parameter]:
        # One of the two has no gradients at a time, and an optimizer leaves that one alone.
        return [*self.teacher.parameters(), *self.network.parameters()]

    def on_train_start(self) -> None:
        if shares.processes()[1] > 1:
            raise InputError("repair=nad trains one network after the other: take a single device")

    def losses(self, objective: Objective, batch: Batch) -> tuple[Tensor, Tensor]:
        if (self.global_step + 0.5) / self.total_steps < self.share:
            return objective(self.teacher, *batch, self.draw)
        self.distilling.fill_(True)
        with watched(self.network) as own:
            losses, logits = objective(self.network, *batch, self.draw)
        with torch.no_grad(), watched(self.teacher.eval()) as aim:
            self.teacher(own.images)
        pairs = list(zip(own.maps.values(), aim.maps.values(), strict=True))[-len(self.betas) :]
        if not pairs:
            raise InputError("repair=nad distils feature maps of more than one place; this network has none")
        for beta, (one, other) in zip(reversed(self.betas), reversed(pairs), strict=False):
            apart = attention(one, self.power) - attention(other, self.power)
            losses = losses + beta * apart.square().sum(1)
        return losses, logits


def attention(features: Tensor, power: float) -> Tensor:
    """Where a network looks: sum over channels of |features|^power (B, D, H, W), flat and of norm 1 (B, H W)."""
    found = features.abs().pow(power).sum(1).flatten(1)
    normed: Tensor = found / (found.norm(dim=1, keepdim=True) + ROUNDING)
    return normed


@dataclass
class Seen:
    """A network's latest pass.

    Attributes:
        images: That it was given.
        maps: Height and width to the last feature map (B, D, H, W) of that size, in the order of their call.
    """

    images: Tensor = field(default_factory=lambda: torch.empty(0))
    maps: dict[tuple[int, int], Tensor] = field(default_factory=dict)


@contextmanager
def watched(network: nn.Module) -> Iterator[Seen]:
    """What the modules of a network answer: of each resolution above a single place the last one."""
    seen = Seen()

    def answered(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if module is network:
            seen.images = inputs[0]
        elif isinstance(output, Tensor) and output.dim() == 4 and output.shape[2] * output.shape[3] > 1:
            height, width = output.shape[2:]
            seen.maps.pop((height, width), None)
            seen.maps[height, width] = output

    hooks = [module.register_forward_hook(answered) for module in network.modules()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()

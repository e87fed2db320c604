"""Repair without images: channels that a small change of the image moves far are removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mcr.errors import InputError
from mcr.repairs.bench import Bench, Candidate
from mcr.weightspace.states import load_state

Pair = tuple[nn.Conv1d | nn.Conv2d | nn.Conv3d, _BatchNorm]


@dataclass(frozen=True)
class Clp:
    """Channel Lipschitzness pruning of the first network (Zheng et al. 2022).

    A channel goes whose bound lies above mean + u sd over its layer: scale and shift of its BatchNorm become 0. The
    bound is that of a convolution and the BatchNorm that takes its output. The published code pairs each BatchNorm with
    the convolution that was defined before it, which is another one in pre-activation networks: there the first
    BatchNorm of a block takes a sum, and is left alone here. BatchNorm's statistics stay.

    Attributes:
        u: Candidates: how many standard deviations above the mean, each at least 0.
    """

    u: Sequence[float]

    def __post_init__(self) -> None:
        if not self.u or min(self.u) < 0 or len(set(self.u)) < len(self.u):
            raise InputError(f"repair=clp: u={list(self.u)} must be a list of different numbers, each at least 0")

    def candidates(self, bench: Bench) -> Iterator[tuple[Candidate, nn.Module]]:
        """One for each u, in place. Raises InputError for a network without a convolution and its BatchNorm."""
        for u in self.u:
            yield {"u": u}, self.rebuild(bench, {"u": u})

    @torch.no_grad()
    def rebuild(self, bench: Bench, candidate: Candidate) -> nn.Module:
        """One candidate again."""
        load_state(bench.network, next(iter(bench.ends.values())))
        pairs = normalised(bench.network, next(bench.calibration())[:1])
        if not pairs:
            raise InputError("repair=clp bounds convolutions whose output BatchNorm takes; this network has none")
        for convolution, norm in pairs:
            bound = bounds(convolution, norm)
            gone = bound > bound.mean() + candidate["u"] * bound.std()
            norm.weight.masked_fill_(gone, 0)
            norm.bias.masked_fill_(gone, 0)
        return bench.network


def bounds(convolution: nn.Module, norm: _BatchNorm) -> Tensor:
    """Upper bound of each channel's Lipschitz constant (out,): the largest singular value of its kernel times
    |gamma| / sd (Zheng et al. 2022), the kernel (in, ...) unfolded to a matrix of input channels by places.
    """
    assert isinstance(convolution.weight, Tensor)
    assert norm.running_var is not None
    scale = norm.weight.abs() / (norm.running_var + norm.eps).sqrt()
    norms: Tensor = torch.linalg.matrix_norm(convolution.weight.flatten(2), ord=2)
    return norms * scale


@torch.no_grad()
def normalised(network: nn.Module, images: Tensor) -> list[Pair]:
    """Convolutions whose output is what a BatchNorm with scale and statistics takes, in the order of their call.

    Args:
        network: Asked in evaluation mode, and left in it.
        images: (B, D, H, W) of any content: only the way of the values through the network matters.
    """
    made: list[tuple[nn.Module, Tensor]] = []
    pairs: dict[_BatchNorm, Any] = {}

    def given(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        made.append((module, output))

    def taken(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        for convolution, output in made:
            if output is inputs[0]:
                pairs[module] = convolution  # type: ignore[index]

    hooks = []
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            hooks.append(module.register_forward_hook(given))
        elif isinstance(module, _BatchNorm) and module.affine and module.track_running_stats:
            hooks.append(module.register_forward_pre_hook(taken))
    try:
        network.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    return [(convolution, norm) for norm, convolution in pairs.items()]

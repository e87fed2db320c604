"""A network's hidden units in the order of another network's: the same function, nearer in weight space.

Entezari et al. (2022) conjecture that trained networks are linearly connected up to such an order.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mcr.weightspace.activations import correlations
from mcr.weightspace.groups import Group, Orders, moved
from mcr.weightspace.matching import State, assign, match, match_jointly, mean_of, objective
from mcr.weightspace.movable import Movable
from mcr.weightspace.states import load_state

WHEN = ("before", "after")
Shape = tuple[int, int, int]
"""(D, H, W) of images."""


@dataclass(frozen=True)
class Aligned:
    """A network whose units are in a new order.

    Attributes:
        state: Its state dict; running statistics and tied tensors have moved along with the units.
        objective: What was maximised, before and after.
        distance: Of its parameters from the reference's (L2), before and after.
        moved: How many units have another place than before.
        units: How many could have.
    """

    state: dict[str, Tensor]
    objective: tuple[float, float]
    distance: tuple[float, float]
    moved: int
    units: int

    def report(self) -> dict[str, float | int]:
        """The facts as plain values."""
        pairs = (("objective", self.objective), ("distance", self.distance))
        found = {f"{name}_{when}": value for name, pair in pairs for when, value in zip(WHEN, pair, strict=True)}
        return {**found, "units_moved": self.moved, "units": self.units}


@torch.no_grad()
def by_weights(network: nn.Module, reference: State, shape: Shape, tries: int, draw: torch.Generator) -> Aligned:
    """Align a network with the state dict of a reference by their weights (see ``match``).

    Raises:
        InputError: In one line, for a network whose units are not understood.
    """
    own, target = _on_cpu(network.state_dict()), _parameters(network, reference)

    def choose(groups: Sequence[Group]) -> list[Orders]:
        return [match(target, _parameters(network, own), groups, tries, draw).orders]

    groups, (orders,) = Movable(network, shape).settle([own], choose)
    return _aligned(own, groups, orders, (target, target))


@torch.no_grad()
def by_activations(
    network: nn.Module, reference: State, shape: Shape, batches: Callable[[], Iterable[Tensor]]
) -> Aligned:
    """Align a network with the state dict of a reference by what their units answer (see ``correlations``).

    The objective is the sum of the correlations of units that have the same place.

    Args:
        network: Stays as it is.
        reference: State dict.
        shape: Of the images.
        batches: Gives images (B, D, H, W) in [0, 1] on the network's device, the same whenever it is called.

    Raises:
        InputError: In one line, for a network whose units are not understood.
    """
    own, movable = _on_cpu(network.state_dict()), Movable(network, shape)
    other, twin = copy.deepcopy(network).eval(), copy.deepcopy(network).eval()
    load_state(other, reference)
    likeness: list[Tensor] = []

    def choose(groups: Sequence[Group]) -> list[Orders]:
        likeness[:] = correlations(movable.symmetry, groups, other, twin, batches())
        return [[assign(one) for one in likeness]]

    groups, (orders,) = movable.settle([own], choose)
    before = sum(float(one.trace()) for one in likeness)
    after = sum(float(one[torch.arange(len(one)), order].sum()) for one, order in zip(likeness, orders, strict=True))
    target = _parameters(network, reference)
    return replace(_aligned(own, groups, orders, (target, target)), objective=(before, after))


@torch.no_grad()
def jointly(
    network: nn.Module, states: Sequence[State], shape: Shape, tries: int, draw: torch.Generator
) -> list[Aligned]:
    """Align N networks in one frame, that of the first (see ``match_jointly``); the reference is the others' mean.

    Args:
        network: Of their architecture; stays as it is.
        states: Their state dicts.
        shape: Of the images.
        tries: See ``match``.
        draw: See ``match``.

    Raises:
        InputError: In one line, for a network whose units are not understood.
    """
    given = [_on_cpu(state) for state in states]
    before = [_parameters(network, state) for state in given]
    groups, orders = Movable(network, shape).settle(given, lambda groups: match_jointly(before, groups, tries, draw))
    after = [_parameters(network, moved(state, groups, order)) for state, order in zip(given, orders, strict=True)]
    means = [[mean_of(many, index) for many in (before, after)] for index in range(len(given))]
    return [
        _aligned(state, groups, order, (first, last))
        for state, order, (first, last) in zip(given, orders, means, strict=True)
    ]


def _on_cpu(state: State) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in state.items()}


def _parameters(network: nn.Module, state: State) -> dict[str, Tensor]:
    """Those of a state dict that are parameters, on the CPU: a tied one once."""
    return {name: state[name].detach().cpu() for name, _ in network.named_parameters()}


def _aligned(own: State, groups: Sequence[Group], orders: Orders, references: tuple[State, State]) -> Aligned:
    """A network after its units have moved; with the parameters of what it was compared with, before and after."""
    found = moved(own, groups, orders)
    pairs = list(zip(references, (own, found), strict=True))
    first, last = (objective(reference, state) for reference, state in pairs)
    near, far = (
        sum(float((tensor - state[name]).double().square().sum()) for name, tensor in reference.items()) ** 0.5
        for reference, state in pairs
    )
    places = sum(int((order != torch.arange(len(order))).sum()) for order in orders)
    copies = {name: tensor.clone() for name, tensor in found.items()}
    return Aligned(copies, (first, last), (near, far), places, sum(map(len, orders)))

"""Weight matching: the order of a network's hidden units in which its weights lie nearest to another network's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.weightspace.groups import Group, Orders, moved

State = Mapping[str, Tensor]
ROUNDING = 1e-12  # of the product of the norms: a rise of the objective by less is none


@dataclass(frozen=True)
class Matched:
    """What a matching has found.

    Attributes:
        orders: Of each group.
        objectives: F before, and after each sweep through the groups; it never falls.
    """

    orders: Orders
    objectives: tuple[float, ...]


@torch.no_grad()
def match(reference: State, state: State, groups: Sequence[Group], tries: int, draw: torch.Generator) -> Matched:
    """Maximise F = sum_T <A_T, B_T with its units moved> by coordinate ascent (Ainsworth et al. 2023, Algorithm 1).

    The best order of one group, the others kept, is a linear assignment problem wherever no tensor has the group along
    two dimensions. Where one has (x + conv(x) on one stream), the problem is quadratic: its linearisation is solved,
    and the step taken only where F rises.

    Args:
        reference: The parameters A that stay: BatchNorm's statistics in the objective would hurt.
        state: The parameters B whose units move, of the same names and shapes.
        groups: Of units that may change places.
        tries: Sweeps begin so many times from the order as it is, through the groups in other random orders each time;
            the highest F is kept.
        draw: For these orders.
    """
    ascents = [_ascent(reference, state, groups, draw) for _ in range(tries)]
    return max(ascents, key=lambda found: found.objectives[-1])


def mean_of(states: Sequence[State], without: int) -> dict[str, Tensor]:
    """The mean of all states but one."""
    others = [state for index, state in enumerate(states) if index != without]
    return {name: torch.stack([state[name] for state in others]).mean(0) for name in states[without]}


def objective(reference: State, state: State) -> float:
    """F = sum_T <A_T, B_T> over the parameters."""
    return sum(float((tensor.double() * state[name].double()).sum()) for name, tensor in reference.items())


def match_jointly(states: Sequence[State], groups: Sequence[Group], tries: int, draw: torch.Generator) -> list[Orders]:
    """Orders of N networks in one frame: each in turn is matched to the mean of the others until nothing moves.

    A step raises the sum of <A, B> over all pairs of networks. Orders of one frame are consistent: to match the first
    network to the second and that to the third is to match the first to the third, where separate matchings of three
    pairs contradict each other for most units. The frame is that of the first network, which stays as it is.

    Args:
        states: The parameters of each network.
        groups: Of units that may change places.
        tries: See ``match``.
        draw: See ``match``.
    """
    found = [{name: tensor.double() for name, tensor in state.items()} for state in states]
    orders = [[torch.arange(len(group.members)) for group in groups] for _ in states]
    rose = True
    while rose:
        rose = False
        for index, own in enumerate(found):
            step = match(mean_of(found, index), own, groups, tries, draw).orders
            if any(is_moved(order) for order in step):
                stepped = moved(own, groups_of(groups, own), step)
                found[index], rose = {name: stepped[name] for name in own}, True
                orders[index] = [before[order] for before, order in zip(orders[index], step, strict=True)]
    back = [order.argsort() for order in orders[0]]
    return [[order[first] for order, first in zip(own, back, strict=True)] for own in orders]


def _ascent(reference: State, state: State, groups: Sequence[Group], draw: torch.Generator) -> Matched:
    """Sweeps through the groups until none moves."""
    target = {name: tensor.double() for name, tensor in reference.items()}
    found = {name: state[name].double() for name in reference}
    orders = [torch.arange(len(group.members)) for group in groups]
    least = ROUNDING * (objective(target, target) * objective(found, found)) ** 0.5
    objectives = [objective(target, found)]
    weighed = groups_of(groups, target)
    beside = {name: {number for number, one in enumerate(weighed) if name in one.names} for name in target}
    stale = {number for number, group in enumerate(weighed) if group.places}  # tensors moved since they were assigned
    while stale:
        for number in torch.randperm(len(groups), generator=draw).tolist():
            if number not in stale:
                continue
            stale.remove(number)
            group = weighed[number]
            gains = torch.zeros(len(group.members), len(group.members), dtype=torch.float64)
            for place in group.places:
                gains += place.rows(target[place.name]) @ place.rows(found[place.name]).T
            order = assign(gains)
            trial = moved(found, [group], [order])
            if sum(float((target[name] * (trial[name] - found[name])).sum()) for name in group.names) > least:
                found, orders[number] = trial, orders[number][order]
                stale |= set.union(*(beside[name] for name in group.names))
        objectives.append(objective(target, found))
    return Matched(orders, tuple(objectives))


def groups_of(groups: Sequence[Group], state: State) -> list[Group]:
    """The groups with their places in these tensors alone."""
    return [Group(group.members, tuple(place for place in group.places if place.name in state)) for group in groups]


def assign(gains: Tensor) -> Tensor:
    """For each row of gains (m, m) the column that it gets, so that their sum is largest: int64 (m,).

    >>> assign(torch.tensor([[0.0, 2.0], [4.0, 1.0]]))
    tensor([1, 0])
    """
    from scipy.optimize import linear_sum_assignment

    _, columns = linear_sum_assignment(gains.numpy(), maximize=True)
    return torch.from_numpy(columns).long()


def is_moved(order: Tensor) -> bool:
    """Whether any member is in another place."""
    return bool((order != torch.arange(len(order))).any())

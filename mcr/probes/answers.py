"""What a probe answers at places of a subspace."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcr.datasets.batches import EvaluationBatches
from mcr.numerics.seeding import generator
from mcr.probes.probe import GroupProbe, Probe


@dataclass(frozen=True)
class Answers:
    """Values of N images, by the probe's own names of its metrics ("loss", where a table says "test_loss").

    Attributes:
        values: Of T places, (T, N). Of a group probe, which is asked of all T networks at once, (N,) of all of them,
            (T, N) of each, or (T, T, N) of each pair.
        given: Of the E ends as they were given, with their own BatchNorm statistics, (E, N); a group probe has none.
        statistics: Named numbers over all networks of a group probe; another one has none.
    """

    values: Mapping[str, Tensor]
    given: Mapping[str, Tensor]
    statistics: Mapping[str, float | str]


def ask(
    probe: Probe,
    at: Sequence[Callable[[], nn.Module]],
    given: Sequence[Callable[[], nn.Module]],
    data: EvaluationBatches,
    seed: int | str,
    reached: Callable[[int, Mapping[str, Tensor]], None],
) -> Answers:
    """Ask each network; every one gets the same random numbers.

    Args:
        probe: The question.
        at: Give the network of each place. All may give one network, which the next call overwrites.
        given: Give each end as it was given, likewise.
        data: The images.
        seed: Of what the probe draws.
        reached: Told how many places are done, and the answers of the last.
    """

    def one(network: Callable[[], nn.Module]) -> Mapping[str, Tensor]:
        return probe(network(), data, generator(seed, probe.draws))

    rows = []
    for count, place in enumerate(at, start=1):
        rows.append(one(place))
        reached(count, rows[-1])
    return Answers(_stacked(rows), _stacked([one(end) for end in given]), {})


def ask_together(
    probe: GroupProbe,
    at: Sequence[Callable[[], nn.Module]],
    data: EvaluationBatches,
    seed: int | str,
    places: Sequence[Sequence[float]],
    shares: Sequence[Sequence[float]],
) -> Answers:
    """Ask all networks at once: T copies are on the device together.

    Args:
        probe: The question; that every network gets the same random numbers is up to it.
        at: Give the network of each place; the next call may overwrite it.
        data: The images.
        seed: Of what the probe draws.
        places: Coordinates of each place (T, dim).
        shares: Of each end in the initial blend there (T, E): a place with a share of 1 is an end.
    """
    networks = [copy.deepcopy(place()) for place in at]
    values = dict(probe.ask(networks, data, generator(seed, probe.draws)))
    where = [" ".join(f"{value:.2f}" for value in place) for place in places]
    if len(set(where)) < len(where):  # places nearer to each other than that
        where = [" ".join(f"{value:g}" for value in place) for place in places]
    places_at_ends = [number for number, row in enumerate(shares) if 1 in row]
    return Answers(values, {}, dict(probe.statistics(values, where, places_at_ends)))


def _stacked(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([row[name] for row in rows]) for name in (rows[0] if rows else ())}

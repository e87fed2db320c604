"""Repair by BatchNorm's statistics alone: how much of a repair is that?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from mcr.errors import InputError
from mcr.repairs.bench import Bench, Candidate
from mcr.weightspace import batchnorm
from mcr.weightspace.states import load_state


@dataclass(frozen=True)
class Rebn:
    """The first network with its statistics estimated anew on the clean images, and nothing else changed.

    Every method that trains, averages or walks estimates them too, so this control stands beside all of them.
    """

    def candidates(self, bench: Bench) -> Iterator[tuple[Candidate, nn.Module]]:
        """The only candidate. Raises InputError for a network without BatchNorm."""
        yield {}, self.rebuild(bench, {})

    def rebuild(self, bench: Bench, candidate: Candidate) -> nn.Module:
        """The same again."""
        if not batchnorm.layers(bench.network):
            raise InputError("repair=rebn estimates BatchNorm's running statistics anew; this network has none")
        load_state(bench.network, next(iter(bench.ends.values())))
        batchnorm.refresh(bench.network, bench.calibration())
        return bench.network

"""Repair by averaging the given networks: how much of a path is its middle?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from mcr.repairs.bench import Bench, Candidate
from mcr.weightspace import batchnorm
from mcr.weightspace.states import load_state


@dataclass(frozen=True)
class Average:
    """The mean of the weights of all given networks, BatchNorm estimated anew on the clean images.

    The middle of the straight line (of the plane, ...) between them, where nothing was fitted. What is neither a
    weight nor a statistic is the first network's.
    """

    def candidates(self, bench: Bench) -> Iterator[tuple[Candidate, nn.Module]]:
        """The only candidate."""
        yield {}, self.rebuild(bench, {})

    def rebuild(self, bench: Bench, candidate: Candidate) -> nn.Module:
        """The same again."""
        theta = torch.stack([bench.layout.pack(state).cpu() for state in bench.ends.values()]).mean(0)
        load_state(bench.network, next(iter(bench.ends.values())))
        # After it, and without the other names of tied weights, which would bring the first network's back.
        load_state(bench.network, bench.layout.views(theta), strict=False)
        batchnorm.refresh(bench.network, bench.calibration())
        return bench.network

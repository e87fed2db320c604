"""Repair by chance: the control that a good repair has to beat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.repairs.bench import Bench, Candidate
from mcr.weightspace import batchnorm
from mcr.weightspace.states import load_state


@dataclass(frozen=True)
class Noise:
    """Gaussian weights around the two networks, with BatchNorm estimated anew (Zhao et al. 2020, appendix).

    The published code left BatchNorm's statistics at their initial values, which alone ruins a network.

    Attributes:
        center: "mean" of the two networks, or the "start" network.
        scale: Standard deviation of each weight in units of its absolute difference between the two.
        draws: Number of candidates.
    """

    center: str
    scale: float
    draws: int

    def __post_init__(self) -> None:
        if self.center not in ("mean", "start") or self.scale <= 0 or self.draws < 1:
            raise InputError(
                f"repair=noise: center {self.center} must be mean or start, scale {self.scale} above 0, "
                f"draws {self.draws} at least 1"
            )

    def candidates(self, bench: Bench) -> Iterator[tuple[Candidate, nn.Module]]:
        """The draws, in place: what was yielded before is gone."""
        for draw in range(self.draws):
            yield {"draw": draw}, self.rebuild(bench, {"draw": draw})

    def rebuild(self, bench: Bench, candidate: Candidate) -> nn.Module:
        """One draw again."""
        start, end, *_ = (bench.layout.pack(state).cpu() for state in bench.ends.values())
        center = (start + end) / 2 if self.center == "mean" else start
        noise = torch.randn(center.shape, generator=generator(bench.seed, "noise", int(candidate["draw"])))
        theta = center + self.scale * (end - start).abs() * noise
        load_state(bench.network, next(iter(bench.ends.values())))
        # After it, and without the other names of tied weights, which would bring the first network's back.
        load_state(bench.network, bench.layout.views(theta), strict=False)
        batchnorm.refresh(bench.network, bench.calibration())
        return bench.network

"""Repair by pruning the neurons whose masks fell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mcr.errors import InputError
from mcr.repairs.bench import Bench, Candidate, Walked
from mcr.weightspace.states import load_state

MASK = ".anp_mask"  # what ``mcr.training.anp`` leaves beside a scale


@dataclass(frozen=True)
class Anp:
    """Adversarial neuron pruning (Wu and Wang 2021): the first network, without neurons of a small mask.

    The scale of a BatchNorm becomes 0 where its mask is at most the threshold; shifts and statistics stay, as in the
    published code.

    Attributes:
        thresholds: Candidates of each training, in [0, 1).
    """

    thresholds: Sequence[float]

    def __post_init__(self) -> None:
        found = list(self.thresholds)
        if not found or not all(0 <= one < 1 for one in found) or len(set(found)) < len(found):
            raise InputError(f"repair=anp: thresholds={found} must be a list of different numbers in [0, 1)")

    def candidates(self, bench: Bench) -> Iterator[tuple[Candidate, nn.Module]]:
        """One for each learning rate and threshold, in place: what was yielded before is gone."""
        for rate in bench.trained:
            for threshold in self.thresholds:
                candidate = {"rate": rate, "threshold": threshold}
                yield candidate, self.rebuild(bench, candidate)

    def rebuild(self, bench: Bench, candidate: Candidate) -> nn.Module:
        """One candidate again."""
        masked, state = bench.trained[candidate["rate"]], dict(next(iter(bench.ends.values())))
        assert not isinstance(masked, Walked)
        for name, mask in masked.items():
            if name.endswith(MASK):
                scale = f"{name.removesuffix(MASK)}.weight"
                state[scale] = torch.where(mask <= candidate["threshold"], 0.0, state[scale])
        load_state(bench.network, state)
        return bench.network

"""Repair by training on the clean images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from mcr.repairs.bench import Bench, Candidate, Walked
from mcr.weightspace.states import load_state


@dataclass(frozen=True)
class Trained:
    """Networks trained on the clean images, one for each learning rate: fine-tuned, pruned or from scratch."""

    def candidates(self, bench: Bench) -> Iterator[tuple[Candidate, nn.Module]]:
        """The trained networks, in place: what was yielded before is gone."""
        for rate in bench.trained:
            yield {"rate": rate}, self.rebuild(bench, {"rate": rate})

    def rebuild(self, bench: Bench, candidate: Candidate) -> nn.Module:
        """One candidate again."""
        state = bench.trained[candidate["rate"]]
        assert not isinstance(state, Walked)
        load_state(bench.network, state)
        return bench.network

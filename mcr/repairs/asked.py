"""All candidates of all repairs, and what held-out images and signals say of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import nn

from mcr.repairs.bench import Bench, Candidate
from mcr.repairs.held_out import HeldOutScore
from mcr.repairs.suspicion import Suspicion


class Repair(Protocol):
    """What an option of the group ``repair`` is."""

    def candidates(self, bench: Bench) -> Iterator[tuple[Candidate, nn.Module]]:
        """Each candidate and its network, in place: what was yielded before is gone."""

    def rebuild(self, bench: Bench, candidate: Candidate) -> nn.Module:
        """The network of one candidate again."""


def asked(
    repairs: Mapping[str, tuple[Repair, Bench]], judge: HeldOutScore, suspicion: Suspicion | None
) -> list[dict[str, Any]]:
    """A row for each candidate: the ``repair`` that gave it, what finds it again, its scores.

    Args:
        repairs: Name to a repair and what it works with.
        judge: Knows the held-out images.
        suspicion: Knows what signals say of the given networks; None where none are asked.
    """
    return [
        {"repair": name, **candidate, **judge.score(network), **(suspicion.score(network) if suspicion else {})}
        for name, (repair, bench) in repairs.items()
        for candidate, network in repair.candidates(bench)
    ]

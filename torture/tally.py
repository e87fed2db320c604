"""What a campaign tried and what came out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

Case = TypeVar("Case")


def within(seconds: float, cases: Iterable[Case]) -> Iterator[Case]:
    """As many of the cases as the time allows."""
    end = time.monotonic() + seconds
    for case in cases:
        if time.monotonic() > end:
            return
        yield case


@dataclass
class Tally:
    """Counts of one campaign.

    Attributes:
        name: Of the campaign.
        right: What came out as it should, by kind.
        faults: What did not: one line each.
    """

    name: str
    right: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, case: str, outcome: str, fault: str = "") -> None:
        """One case: how it came out, or what is wrong with that."""
        if fault:
            self.faults.append(f"{case}: {fault}")
        else:
            self.right[outcome] += 1

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.right.items()))
        tried = self.right.total() + len(self.faults)
        return "\n".join([f"{self.name}: {tried} tried, {len(self.faults)} faults ({kinds})", *map(_line, self.faults)])


def _line(fault: str) -> str:
    return f"  fault  {fault}"

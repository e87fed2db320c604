"""What every merge is: a rule that picks places of a subspace, judged on validation images alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from mcr.merges.judge import Judge


class Merge(Protocol):
    """One place is one network, whose weights are merged; several are networks whose answers are averaged."""

    def pick(self, judge: Judge) -> Sequence[Tensor]:
        """Places of the judge's subspace, float64 (dim,) each, at least one.

        Raises:
            InputError: For a subspace that has no place of this kind.
        """

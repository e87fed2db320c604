"""What every probe is: a question to one network, or to several at once, that gives values for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from mcr.datasets.batches import EvaluationBatches
from mcr.metric import Metric


class Probe(Protocol):
    """A question to one network. One that not every network suits has a ``refuse``, see ``Objective``.

    Attributes:
        metrics: What it measures.
        draws: The use that its random numbers are named by. Probes of one use draw the same numbers: an attack's
            random starts are the same in every probe that attacks.
    """

    draws: ClassVar[str]

    @property
    def metrics(self) -> tuple[Metric, ...]: ...

    def __call__(self, network: nn.Module, data: EvaluationBatches, draw: torch.Generator) -> Mapping[str, Tensor]:
        """Metric to values (N,), whose mean over images is the number that is reported."""


class GroupProbe(Protocol):
    """A question to several networks at once; see ``Probe``.

    Attributes:
        numbers: Those that ``statistics`` gives, texts left out: a claim about any other is refused before the work.
    """

    draws: ClassVar[str]
    numbers: ClassVar[tuple[str, ...]]

    @property
    def metrics(self) -> tuple[Metric, ...]: ...

    def ask(
        self, networks: Sequence[nn.Module], data: EvaluationBatches, draw: torch.Generator
    ) -> Mapping[str, Tensor]:
        """Metric to values for T networks: of all together (N,), of each (T, N), or of each pair (T, T, N)."""

    def statistics(
        self, values: Mapping[str, Tensor], where: Sequence[str], ends: Sequence[int]
    ) -> Mapping[str, float | str]:
        """Named numbers that sum the values up, and their standard errors over images.

        Args:
            values: As ``ask`` gives them.
            where: What people call the place of each network.
            ends: Which of the networks are ends of the path, or corners of the surface.
        """


def again(draw: torch.Generator) -> torch.Generator:
    """A generator that draws what another would draw next, so that every network gets the same random numbers."""
    return torch.Generator(draw.device).set_state(draw.get_state())

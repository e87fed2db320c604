"""Errors are injected into the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from mcr.datasets.augment import to_unit
from mcr.datasets.batches import EvaluationBatches
from mcr.edits.edit import Edited, State
from mcr.injections.injected import Injection
from mcr.probes.risk import risk
from mcr.types import LabelledImages
from mcr.weightspace.states import load_state


@dataclass(frozen=True)
class Inject:
    """An injection, on images that all networks of the run get right, so that all can be given the same errors.

    The attacker's images lie outside every clean subset and outside the test images on which accuracy is measured.

    Attributes:
        injection: Tampers with the weights.
        batch_size: Images at a time.
    """

    draws: ClassVar[str] = "injection"

    injection: Injection
    batch_size: int

    def __call__(
        self, network: nn.Module, others: Sequence[State], data: LabelledImages, draw: torch.Generator
    ) -> Edited:
        """The tampered weights, and which images were attacked."""
        batches = EvaluationBatches(data.images, data.labels, self.batch_size, "contiguous")
        own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        right = torch.ones(len(data.labels), dtype=torch.bool)
        for state in (*others, own):  # the network itself comes last, and stays
            load_state(network, state)
            right &= risk(network, batches)[1].bool()
        numbers = right.nonzero().flatten()
        images = to_unit(data.images[numbers.to(data.images.device)], "contiguous")
        labels = data.labels[numbers.to(data.labels.device)]
        injected = self.injection.inject(network, images, labels, draw)
        places = {name: numbers[getattr(injected, name)].tolist() for name in ("attacked", "kept")}
        return Edited(injected.tensors, {**injected.report(), **places})

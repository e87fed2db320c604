"""What a signal is asked with, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from mcr.datasets.batches import EvaluationBatches

Question = Callable[[nn.Module], Tensor]
"""A candidate, in evaluation mode and with its BatchNorm statistics, to a value of each image that counts: float64
(M,) on the CPU, higher is more suspicious. The mean is the signal. The images are the same for every candidate."""


class Signal(Protocol):
    """A hint, made without the trigger, that a candidate still holds a backdoor which the suspects share.

    What is suspicious depends on the suspects alone and is worked out once; a candidate then costs forward passes.
    """

    def against(self, suspects: Sequence[nn.Module], images: EvaluationBatches, draw: torch.Generator) -> Question:
        """The question for candidates.

        Args:
            suspects: One network or more, separate modules on the images' device; they are left as they are.
            images: The defender's clean images, uint8 (N, D, H, W), and their labels.
            draw: All randomness of the signal; on the CPU, so that every device sees the same.

        Raises:
            InputError: Where the images can tell nothing.
        """

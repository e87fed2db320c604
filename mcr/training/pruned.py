"""Training a network whose weakest filters are gone."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mcr.training.endpoint import EndpointModule
from mcr.types import Batch
from mcr.weightspace.filters import weakest


class PrunedModule(EndpointModule):
    """Filters are set to zero and stay zero: the shapes are kept, so the file still fits the user's class.

    A pruned filter carries nothing of the image any more; a BatchNorm behind it gives a constant.

    Args:
        share: Of the filters of each convolution.
        network: With the weights to prune.
        **training: See EndpointModule.
    """

    def __init__(self, share: float, network: nn.Module, **training: Any) -> None:
        super().__init__(network=network, **training)
        self.gone = weakest(network, share)
        self._remove()

    def on_train_start(self) -> None:
        self.gone = {name: gone.to(self.device) for name, gone in self.gone.items()}

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self._remove()

    @torch.no_grad()
    def _remove(self) -> None:
        for name, parameter in self.network.named_parameters():
            if name in self.gone:
                parameter.masked_fill_(self.gone[name].view(-1, *(1,) * (parameter.dim() - 1)), 0)

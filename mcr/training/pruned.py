"""Training a network whose weakest filters are gone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mcr.errors import InputError
from mcr.training.endpoint import EndpointModule
from mcr.types import Batch


def weakest(network: nn.Module, share: float) -> dict[str, Tensor]:
    """For each convolution's weight, bool (out,): the filters of least L1 norm (Li et al. 2017).

    Args:
        network: Any module.
        share: Of the filters of each convolution, rounded down, so that one always stays.

    Raises:
        InputError: For a share outside (0, 1), or a network without convolutions.
    """
    if not 0 < share < 1:
        raise InputError(f"repair.module.share={share} must lie between 0 and 1")
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            norms = module.weight.detach().abs().flatten(1).sum(1)
            gone = torch.zeros_like(norms, dtype=torch.bool)
            # 0.29 of 100 is 28.999999999999996 in floating point.
            gone[norms.argsort()[: int(share * len(norms) + 1e-9)]] = True
            found[f"{name}.weight"] = gone
            if module.bias is not None:
                found[f"{name}.bias"] = gone
    if not found:
        raise InputError("repair=prune removes filters of convolutions; this network has none")
    return found


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

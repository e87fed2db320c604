"""Filters of convolutions, by their norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mcr.errors import InputError


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

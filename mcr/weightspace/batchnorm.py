"""BatchNorm's running statistics at a point of weight space."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def layers(network: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers that keep running statistics."""
    found = (module for module in network.modules() if isinstance(module, _BatchNorm))
    return [layer for layer in found if layer.track_running_stats]


@torch.no_grad()
def refresh(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Estimate the statistics anew as the average over batches of images (B, D, H, W); the mode is as before after.

    Each batch is normalised by its own statistics, as in training; dropout stays off, as in the evaluation that uses
    the averages (``torch.optim.swa_utils.update_bn`` would switch it on).

    Raises:
        ValueError: For a batch with a single value per channel, which has no variance.
    """
    found = [_Average(layer) for layer in layers(network)]
    if not found:
        return
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    hooks = [average.layer.register_forward_pre_hook(average) for average in found]
    try:
        for images in batches:
            network(images)
        for average in found:
            average.finish()
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
        # Weights cast for autocast inside no_grad must not serve a later pass that needs gradients.
        torch.clear_autocast_cache()


class _Average:
    """The statistics of one layer: of the batch that comes in, for its normalisation, and their average so far.

    In two passes: torch's own kernel for channels_last adds up a million numbers in one go on a CPU, which leaves
    errors of 1e-4 in a variance. It also asks the device for its count at every batch where no momentum is set.
    """

    def __init__(self, layer: _BatchNorm) -> None:
        assert layer.running_mean is not None
        assert layer.running_var is not None
        self.layer, self.running = layer, (layer.running_mean, layer.running_var)
        self.sums = tuple(torch.zeros_like(kept) for kept in self.running)
        self.count = 0

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0]
        number = values.numel() // values.shape[1]
        if number < 2:
            raise ValueError(f"BatchNorm cannot be estimated from a single value per channel: {tuple(values.shape)}")
        others = [dimension for dimension in range(values.dim()) if dimension != 1]
        wide = torch.promote_types(values.dtype, torch.float32)
        mean = values.mean(others, keepdim=True, dtype=wide)
        variance = (values - mean).square_().mean(others)
        # A batch is normalised by its plain variance; what is kept is the unbiased one, as torch does it.
        for kept, found in zip(self.running, (mean.flatten(), variance), strict=True):
            kept.copy_(found)
        for total, found in zip(self.sums, (mean.flatten(), variance * (number / (number - 1))), strict=True):
            total += found
        self.count += 1

    def finish(self) -> None:
        """The averages become the layer's running statistics; a layer that nothing reached has those of a new one."""
        self.layer.reset_running_stats()
        if self.count:
            for kept, total in zip(self.running, self.sums, strict=True):
                kept.copy_(total / self.count)
            assert self.layer.num_batches_tracked is not None
            self.layer.num_batches_tracked += self.count

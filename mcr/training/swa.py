"""Training that yields the average of its late networks."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel

from mcr.errors import InputError
from mcr.training.endpoint import EndpointModule
from mcr.types import Batch
from mcr.weightspace import batchnorm


class SwaModule(EndpointModule):
    """Stochastic weight averaging (Izmailov et al. 2018): equal shares of the networks after late epochs.

    The last epoch's network is always the latest of them. Whenever one is added, BatchNorm's statistics of the average
    are estimated on that epoch's training images, so that validation sees what training yields.

    Args:
        network: See EndpointModule.
        begin: Share of the training after which the average begins.
        every: Epochs between two networks of the average, counted back from the last one.
        **training: See EndpointModule.

    Raises:
        InputError: For values out of range.
    """

    def __init__(self, network: nn.Module, begin: float, every: int, **training: Any) -> None:
        super().__init__(network=network, **training)
        if not 0 <= begin < 1 or every < 1:
            raise InputError(f"module: 0 <= begin {begin} < 1, every {every} >= 1")
        self.begin, self.every = begin, every
        self.averaged = AveragedModel(network).requires_grad_(False)

    @property
    def scored(self) -> nn.Module:
        return self.averaged.module if int(self.averaged.n_averaged) else self.network

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if batch_idx + 1 < self.trainer.num_training_batches:
            return
        epochs = self.epochs or self.trainer.max_epochs or 1
        done = self.current_epoch + 1
        if done > self.begin * epochs and (epochs - done) % self.every == 0:
            self.averaged.update_parameters(self.network)
            batches: Any = self.trainer.train_dataloader
            batchnorm.refresh(self.averaged.module, (images.to(self.device) for images, _ in batches))

"""What a process needs that trains together with others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from torch import nn

from mcr.training.synchronised import synchronise


class Movable(Protocol):
    """Batches that are cut from tensors."""

    def to(self, device: torch.device) -> None:
        """Move the tensors."""


class Spawned(pl.Callback):
    """Threads, BatchNorm over the whole batch, and the images on the process's own device.

    Images reach a process in memory that all share. From there each moves them once to its device, where its rows of
    every batch are cut: a batch costs no transfer.

    Args:
        threads: CPU threads of each process; 0 leaves Lightning's choice, which divides the CPUs among them.
        batches: Of training and validation.
    """

    def __init__(self, threads: int, batches: Sequence[Movable]) -> None:
        self.threads, self.batches = threads, batches

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.threads:
            torch.set_num_threads(self.threads)
        network: Any = pl_module.network
        assert isinstance(network, nn.Module)
        synchronise(network)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for batches in self.batches:
            batches.to(pl_module.device)

"""What a process needs that trains together with others, and what none of them need say."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from torch import nn

from mcr.training.synchronised import synchronise

NEEDLESS = (
    # Batches are tensors on the device already: workers would only cost time.
    ".*does not have many workers.*",
    ".*LeafSpec.*",
    # A path is measured by its own stage, not while it is fitted.
    ".*no `val_dataloader`.*",
    # Of the learning rate, which is one in all processes.
    ".*recommended to use `self.log.*sync_dist=True.*",
    ".*`torch.jit.script` is deprecated.*",  # which torch itself calls for forward mode
    ".*Checkpoint directory .* exists and is not empty.*",
)
# Importing Lightning resets its log level; its advertisements and device listings help nobody here. Nor does torch's
# word that other processes are ended with the one that failed, whose error is told.
for name in (
    *("pytorch_lightning", "lightning.pytorch", "pytorch_lightning.utilities.rank_zero"),
    *("lightning_fabric", "lightning_fabric.utilities.rank_zero", "torch.multiprocessing.spawn"),
):
    logging.getLogger(name).setLevel(logging.ERROR)


def leave_out_needless() -> None:
    """Ignore warnings of libraries that help nobody here, in this process."""
    for message in NEEDLESS:
        warnings.filterwarnings("ignore", message)


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
        leave_out_needless()
        if self.threads:
            torch.set_num_threads(self.threads)
        network: Any = pl_module.network
        assert isinstance(network, nn.Module)
        synchronise(network)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for batches in self.batches:
            batches.to(pl_module.device)

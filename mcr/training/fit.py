"""The only place that makes a Lightning Trainer."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from mcr.errors import InputError
from mcr.precision import Precision
from mcr.training.endpoint import EndpointModule
from mcr.training.history import History
from mcr.training.progress import ProgressCallback
from mcr.training.watch import Watch

PLUGINS: dict[Precision, Literal["32-true", "bf16-mixed"]] = {"fp32": "32-true", "bf16": "bf16-mixed"}
# Importing Lightning resets its log level; its advertisements and device listings help nobody here.
for name in ("pytorch_lightning", "lightning.pytorch", "pytorch_lightning.utilities.rank_zero"):
    logging.getLogger(name).setLevel(logging.ERROR)


def fit(
    module: EndpointModule,
    batches: Any,
    validation: Any,
    folder: Path,
    *,
    label: str,
    epochs: int,
    precision: Precision,
    keep: str,
    patience: int,
    backend: str,
    runtime: Mapping[str, Any],
    loggers: list[Any],
) -> list[dict[str, float]]:
    """Train; an interrupted training in the same folder goes on from its last complete epoch.

    The module ends with the weights of the last epoch, or of the best by its ``monitor``.

    Args:
        module: What is trained.
        batches: Training batches with ``set_epoch``.
        validation: Validation batches, or None where nothing is watched.
        folder: For the checkpoints, removed at the end.
        label: For the progress bar.
        precision: "fp32" or "bf16".
        keep: "last" or "best".
        patience: Epochs without a better ``monitor`` after which training stops; 0 for never.
        backend: Of torch.compile for the network, or "none".
        runtime: accelerator, devices, strategy.
        loggers: Lightning loggers.

    Returns:
        The history: one mapping of metric to value per epoch.
    """
    if backend != "none":
        module.network.compile(backend=backend)
    history = History()
    places = {name: folder / "checkpoints" / f"{name}.ckpt" for name in ("last", "best")}
    trainer = pl.Trainer(
        accelerator=runtime["accelerator"],
        devices=runtime["devices"],
        strategy=runtime["strategy"],
        precision=PLUGINS[precision],
        max_epochs=epochs,
        callbacks=[
            history,
            *_checkpoints(module, places, keep),
            Watch(label, history, patience, keep),
            ProgressCallback(label),
        ],
        logger=loggers,
        # Attacks work under inference mode too, but then copy what they differentiate.
        inference_mode=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        default_root_dir=folder,
    )
    with warnings.catch_warnings():
        # Batches are tensors on the device already: workers would only cost time.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*")
        # A path is measured by its own stage, not while it is fitted.
        warnings.filterwarnings("ignore", ".*no `val_dataloader`.*")
        warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")
        resume = places["last"] if _continues(places["last"], module) else None
        try:
            trainer.fit(module, batches, validation, ckpt_path=resume, weights_only=True)
        except SystemExit:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from None
    # Read back from the files: with spawned processes they are the only thing that comes home.
    module.load_state_dict(torch.load(places[keep], map_location="cpu", weights_only=True)["state_dict"])
    for name, tensor in module.named_parameters():
        if not torch.isfinite(tensor).all():
            raise InputError(f"{label} diverged: {name} is not finite after the last epoch; lower the learning rate")
    callbacks = torch.load(places["last"], map_location="cpu", weights_only=True)["callbacks"]
    rows: list[dict[str, float]] = callbacks["History"]["rows"]
    return rows


def _continues(checkpoint: Path, module: EndpointModule) -> bool:
    """Whether there is a checkpoint that this training can go on from: an earlier version's may name other tensors."""
    if not checkpoint.is_file():
        return False
    return set(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]) == set(module.state_dict())


def _checkpoints(module: EndpointModule, places: Mapping[str, Path], keep: str) -> list[ModelCheckpoint]:
    """The last epoch, to go on from; and the best, where that is kept."""
    common: dict[str, Any] = {"dirpath": places["last"].parent, "enable_version_counter": False}
    found = [ModelCheckpoint(filename="last", **common)]
    if keep == "best":
        found.insert(0, ModelCheckpoint(filename="best", monitor=module.monitor, mode="max", **common))
    return found

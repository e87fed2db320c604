"""The only place that makes a Lightning Trainer."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_only
from torch.multiprocessing.spawn import ProcessRaisedException

from mcr.errors import InputError
from mcr.numerics.precision import Precision, full_float32
from mcr.spawning import safe_start
from mcr.training import checkpoints
from mcr.training.checkpoints import WholeFiles
from mcr.training.endpoint import EndpointModule
from mcr.training.history import History, Row
from mcr.training.progress import ProgressCallback
from mcr.training.spawned import Spawned, leave_out_needless
from mcr.training.watch import Collapse, Watch

PLUGINS: dict[Precision, Literal["32-true", "bf16-mixed"]] = {
    "fp32": "32-true",
    "tf32": "32-true",
    "bf16": "bf16-mixed",
}
REFUSED = re.compile(rf"^{InputError.__module__}\.{InputError.__name__}: (.*)$", re.MULTILINE)
log = logging.getLogger("mcr")


@dataclass(frozen=True)
class Fitted:
    """How a training went.

    Attributes:
        rows: The history: metric to value, one row per epoch.
        stopped: Why it ended early, or "". A collapse is told even where it came with the last epoch.
    """

    rows: list[Row]
    stopped: str


def fit(
    module: EndpointModule,
    batches: Any,
    validation: Any,
    folder: Path,
    *,
    label: str,
    epochs: int,
    stop: int,
    precision: Precision,
    keep: str,
    patience: int,
    watch: Mapping[str, float],
    backend: str,
    runtime: Mapping[str, Any],
    loggers: list[Any],
) -> Fitted:
    """Train; an interrupted training in the same folder goes on from its last complete epoch.

    A checkpoint that cannot be read is removed, and training begins anew.

    The module ends with the weights of the last epoch, or of the best by its ``monitor``.

    Args:
        module: What is trained.
        batches: Training batches with ``set_epoch``; of several processes with ``size`` and ``to``.
        validation: Validation batches, or None where nothing is watched.
        folder: For the checkpoints, removed at the end.
        label: For the progress bar.
        epochs: Length that the schedule and the objective are made for.
        stop: Epochs after which training ends; below ``epochs`` it gives what the whole training has by then.
        precision: "fp32", "tf32" or "bf16".
        keep: "last" or "best".
        patience: Epochs without a better ``monitor`` after which training stops; 0 for never.
        watch: When robustness has collapsed: the arguments of ``Collapse``.
        backend: Of torch.compile for the network, or "none".
        runtime: accelerator, devices, strategy; of several processes also the ``threads`` of each.
        loggers: Lightning loggers.

    Raises:
        InputError: For a training that diverged, or whose robustness collapsed where the last epoch is kept, or a batch
            of which some processes would have no image.
    """
    if backend != "none":
        module.network.compile(backend=backend)
    if not 1 <= stop <= epochs:
        raise InputError(f"{label}: stop={stop} must be an epoch of the training, from 1 to {epochs}")
    module.epochs, module.precision = epochs, precision
    history = History()
    thresholds: dict[str, Any] = dict(watch)
    watcher = Watch(label, history, patience, keep, Collapse(**thresholds))
    places = {name: folder / "checkpoints" / f"{name}.ckpt" for name in ("last", "best")}
    shared = []
    if (count := _processes(runtime)) > 1:
        if batches.size < count:
            raise InputError(f"{label}: a batch of {batches.size} images has none for each of {count} processes")
        shared = [Spawned(runtime["threads"], [one for one in (batches, validation) if one is not None])]
    trainer = pl.Trainer(
        accelerator=runtime["accelerator"],
        devices=runtime["devices"],
        strategy=runtime["strategy"],
        precision=PLUGINS[precision],
        max_epochs=stop,
        callbacks=[*shared, history, *_checkpoints(module, places, keep), watcher, ProgressCallback(label)],
        plugins=_plugins(runtime),
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
        leave_out_needless()
        resume = _checkpoint(places, keep, module, label)
        try:
            with safe_start():
                trainer.fit(module, batches, validation, ckpt_path=resume, weights_only=True)
        except SystemExit as end:
            if isinstance(end.__context__, KeyboardInterrupt):  # Lightning's answer to Ctrl-C
                raise KeyboardInterrupt from None
            raise  # of the network's own code, or of an attack's: a failure
        except ProcessRaisedException as error:
            if (said := REFUSED.search(str(error))) is None:
                raise
            raise InputError(said[1]) from None  # all that comes home of it is the text of its traceback
        finally:
            full_float32()
    # Read back from the files: with spawned processes they are the only thing that comes home.
    module.load_state_dict(checkpoints.load(places[keep])["state_dict"])
    for name, tensor in module.named_parameters():
        if not torch.isfinite(tensor).all():
            raise InputError(f"{label} diverged: {name} is not finite after the last epoch; lower the learning rate")
    rows: list[Row] = checkpoints.load(places["last"])["callbacks"]["History"]["rows"]
    for name, value in rows[-1].items() if keep == "last" else ():
        if not isfinite(value):
            raise InputError(f"{label} diverged: {name} is {value} after the last epoch; lower the learning rate")
    verdict = watcher.verdict(rows, module)
    stopped = verdict.sentence if verdict and (verdict.collapsed or len(rows) < stop) else ""
    return Fitted(rows, stopped)


def _checkpoint(places: Mapping[str, Path], keep: str, module: EndpointModule, label: str) -> Path | None:
    """The checkpoint that this training goes on from; None, and none left, where one that it needs is unusable."""
    if not places["last"].exists():
        return None
    unusable = [
        places[name]
        for name in dict.fromkeys(("last", keep))
        if not checkpoints.usable(places[name], set(module.state_dict()))
    ]
    if not unusable:
        return places["last"]
    log.warning("  %-22s the checkpoint %s cannot be used: removed, begun anew", label, unusable[0])
    for place in places.values():
        place.unlink(missing_ok=True)
    return None


def _processes(runtime: Mapping[str, Any]) -> int:
    """How many processes train together: one on each device."""
    devices = runtime["devices"]
    return len(devices) if isinstance(devices, list | tuple) else int(devices)


def _own_processes(runtime: Mapping[str, Any]) -> bool:
    """Whether all processes of a training are this one and those that it starts itself."""
    return _processes(runtime) == 1 or str(runtime["strategy"]).endswith("_spawn")


def _plugins(runtime: Mapping[str, Any]) -> list[Any]:
    """Lightning's plugins: whole checkpoints; and, where all processes are our own, an environment that says so.

    In an allocation of several tasks Lightning would take the scheduler's variables for a request, and give this
    process a number above 0, whose loggers keep silent.
    """
    if not _own_processes(runtime):
        return [WholeFiles()]
    rank_zero_only.rank = 0  # type: ignore[attr-defined]
    return [WholeFiles(), LightningEnvironment()]


def _checkpoints(module: EndpointModule, places: Mapping[str, Path], keep: str) -> list[ModelCheckpoint]:
    """The last epoch, to go on from; and the best, where that is kept."""
    common: dict[str, Any] = {"dirpath": places["last"].parent, "enable_version_counter": False}
    found = [ModelCheckpoint(filename="last", **common)]
    if keep == "best":
        found.insert(0, ModelCheckpoint(filename="best", monitor=module.monitor, mode="max", **common))
    return found

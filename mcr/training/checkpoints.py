"""Checkpoints: published whole, and trusted only after they were read."""

from __future__ import annotations

import os
from collections.abc import Set
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from mcr.store.disk import sync

# What Lightning reads back when a training goes on.
ENTRIES = frozenset(
    {"state_dict", "callbacks", "loops", "optimizer_states", "lr_schedulers", "epoch", "global_step"}
    | {"pytorch-lightning_version"}
)


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there when it is on the disk.

    Lightning's own form writes to TMPDIR; from another file system the move is a copy, and a process killed in it
    leaves half a checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".partial-{place.name}")
        try:
            # Into a stream: so a full disk is an OSError that says so.
            with open(partial, "wb") as stream:
                torch.save(checkpoint, stream)
                stream.flush()
                os.fsync(stream.fileno())
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        os.replace(partial, place)
        sync(place.parent)


def load(path: Path) -> Any:
    """What a checkpoint holds, on the CPU; nothing in it is run."""
    return torch.load(path, map_location="cpu", weights_only=True)


def usable(path: Path, names: Set[str]) -> bool:
    """Whether a training can go on from a checkpoint.

    Args:
        path: The checkpoint; one that is torn, or of another version of this program, is none.
        names: Of the tensors that the training has.
    """
    try:
        found = load(path)
        return bool(found.keys() >= ENTRIES and found["state_dict"].keys() == names)
    except Exception:  # a damaged file fails in any way: pickle, zip, struct, torch, the file system
        return False

"""This program's own files of weights: safetensors. Those of users are read in ``mcr.foreign``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor


def save(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write named tensors as safetensors; tied tensors are written under each of their names."""
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)


def load(path: Path) -> dict[str, Tensor]:
    """Named tensors from safetensors."""
    return load_file(path)

"""What lies in a stage's folder: the file names, and how to read them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcr.architectures.normalization import Normalized
from mcr.errors import InputError
from mcr.types import Part, Source
from mcr.weightspace import files

DATA, SPLIT, SPLIT_SUMMARY = "data.json", "splits.safetensors", "splits.json"
NETWORK, HISTORY, CONTROL = "network.safetensors", "history.csv", "control.safetensors"
CHUNK = 4096  # images at a time where a float copy of all would be large
PREFIX = "network."  # of the inner network's names inside Normalized
TABLE, ENDS, PER_IMAGE, SUMMARY = "path.csv", "ends.csv", "per_image.safetensors", "summary.json"


@dataclass(frozen=True)
class DataSpec:
    """Facts of a decoded data set.

    Attributes:
        classes: Class names.
        channels: D.
        image_size: (H, W).
        mean: Per channel of the training part, in [0, 1] units.
        std: Likewise.
        counts: Part name to number of images.
    """

    classes: tuple[str, ...]
    channels: int
    image_size: tuple[int, int]
    mean: list[float]
    std: list[float]
    counts: dict[str, int]


def write_source(source: Source, folder: Path) -> None:
    """Pixels as memory-mappable arrays, facts and checksums beside them."""
    first = source.parts["all" if "all" in source.parts else "train"].images
    sums = squares = torch.zeros(first.shape[1], dtype=torch.float64)
    pixels = first[:, 0].numel()
    for begin in range(0, len(first), CHUNK):
        values = first[begin : begin + CHUNK].double().div(255)
        sums, squares = sums + values.sum((0, 2, 3)), squares + values.square().sum((0, 2, 3))
    mean = sums / pixels
    std = (squares / pixels - mean**2).clamp_min(1e-12).sqrt()
    checksums = {}
    for name, part in source.parts.items():
        for kind, tensor in (("images", part.images), ("labels", part.labels)):
            path = folder / f"{name}_{kind}.npy"
            np.save(path, tensor.numpy(), allow_pickle=False)
            checksums[path.name] = _checksum(path)
    facts = {
        "classes": list(source.classes),
        "channels": first.shape[1],
        "image_size": list(first.shape[2:]),
        "mean": [round(float(value), 6) for value in mean],
        "std": [round(float(value), 6) for value in std],
        "counts": {name: len(part.labels) for name, part in source.parts.items()},
        "sha256": checksums,
    }
    (folder / DATA).write_text(json.dumps(facts, indent=2) + "\n")


def read_spec(folder: Path) -> DataSpec:
    facts = json.loads((folder / DATA).read_text())
    height, width = facts["image_size"]
    return DataSpec(
        tuple(facts["classes"]), facts["channels"], (height, width), facts["mean"], facts["std"], facts["counts"]
    )


def read_part(folder: Path, name: str) -> Part:
    """A part of the pixels, memory-mapped. Raises InputError where the file is not what was written."""
    tensors = []
    for kind in ("images", "labels"):
        path = folder / f"{name}_{kind}.npy"
        expected = json.loads((folder / DATA).read_text())["sha256"][path.name]
        if not path.is_file() or _checksum(path) != expected:
            raise InputError(f"{path} is damaged (its checksum differs): remove {folder}, it will be made again")
        # Copy-on-write: torch wants writable memory, the file stays as it is.
        tensors.append(torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False)))
    return Part(*tensors)


def read_split(inputs: dict[str, Path], name: str, device: str, limit: int | str = "all") -> Part:
    """A split's images and labels on the device, in the recorded random order; its first ``limit`` images."""
    counts = read_spec(inputs["data"]).counts
    part = read_part(inputs["data"], "all" if "all" in counts else "test" if name == "test" else "train")
    indices = files.load(inputs["split"] / SPLIT)[name].long()
    if limit != "all":
        indices = indices[: int(limit)]
    return Part(part.images[indices].to(device), part.labels[indices].to(device))


def write_network(model: Normalized, folder: Path) -> None:
    """The inner network's state dict, with exactly the keys of the user's own class."""
    files.save(model.network.state_dict(), folder / NETWORK)


def read_network(folder: Path) -> dict[str, Tensor]:
    """The state dict of the network behind its normalisation."""
    return {PREFIX + name: tensor for name, tensor in files.load(folder / NETWORK).items()}


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _checksum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

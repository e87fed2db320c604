"""What lies in a stage's folder: the file names, and how to read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcr.architectures.normalization import Normalized
from mcr.backdoors.backdoor import Backdoor
from mcr.datasets.split import home
from mcr.errors import InputError
from mcr.store import jsonfile
from mcr.store.build import build
from mcr.types import LabelledImages, RawDataset
from mcr.weightspace import files

DATA, SPLIT, SPLIT_SUMMARY = "data.json", "splits.safetensors", "splits.json"
NETWORK, HISTORY, CONTROL = "network.safetensors", "history.csv", "control.safetensors"
CHUNK = 4096  # images at a time where a float copy of all would be large
NAMES = "names.json"  # of the entries in a user's file: the network's name to the file's, and its type
TOLD = "told.json"  # what was read of a user's file and what not, in words
PREFIX = "network."  # of the inner network's names inside Normalized
POISON, POISON_FACTS, EDIT = "poison.safetensors", "poison.json", "edit.json"
PRECHECK = "precheck.json"
CLEANED, CHOICE, REFITTED = "cleaned.safetensors", "choice.json", "refitted.json"
SUMMARY = "summary.json"
MERGED = "merged.safetensors"
STATISTICS = "statistics.safetensors"
PICK = "pick.json"  # the candidates of a merge, and how good they were
TRAINING = "training.json"  # why a training ended early, and what was found wrong with a network when it was tried


@dataclass(frozen=True)
class DataSpec:
    """Facts of a decoded data set.

    Attributes:
        classes: Class names.
        channels: D.
        image_size: (H, W).
        mean: Per channel of the training part, in [0, 1] units.
        std: Likewise.
        counts: LabelledImages name to number of images.
        notes: What a reader of results must know of the source, one line each.
        empty: Numbers of the classes that no image shows.
    """

    classes: tuple[str, ...]
    channels: int
    image_size: tuple[int, int]
    mean: list[float]
    std: list[float]
    counts: dict[str, int]
    notes: tuple[str, ...]
    empty: tuple[int, ...]


def spec_of(source: RawDataset) -> DataSpec:
    """The facts of a source. Raises InputError for a part with one class only, or images that are all alike."""
    for name, part in source.parts.items():
        if len(part.labels.unique()) < 2:
            raise InputError(f"the part {name} of the data holds a single class")
    first = source.parts["all" if "all" in source.parts else "train"].images
    if all(bool((first[begin : begin + CHUNK] == first[:1]).all()) for begin in range(0, len(first), CHUNK)):
        raise InputError(f"all {len(first)} images of the data are alike: nothing can be learned from them")
    sums = squares = torch.zeros(first.shape[1], dtype=torch.float64)
    pixels = first[:, 0].numel()
    for begin in range(0, len(first), CHUNK):
        values = first[begin : begin + CHUNK].double().div(255)
        sums, squares = sums + values.sum((0, 2, 3)), squares + values.square().sum((0, 2, 3))
    mean = sums / pixels
    std = (squares / pixels - mean**2).clamp_min(1e-12).sqrt()
    height, width = first.shape[2:]
    rounded = [[round(float(value), 6) for value in values] for values in (mean, std)]
    counts = {name: len(part.labels) for name, part in source.parts.items()}
    shown = {label for part in source.parts.values() for label in part.labels.unique().tolist()}
    empty = tuple(label for label in range(len(source.classes)) if label not in shown)
    size = (height, width)
    return DataSpec(source.classes, first.shape[1], size, rounded[0], rounded[1], counts, source.notes, empty)


def write_source(source: RawDataset, folder: Path) -> None:
    """Pixels as memory-mappable arrays, and the facts beside them."""
    spec = spec_of(source)
    for name, part in source.parts.items():
        for kind, tensor in (("images", part.images), ("labels", part.labels)):
            np.save(folder / f"{name}_{kind}.npy", tensor.numpy(), allow_pickle=False)
    jsonfile.write(folder / DATA, asdict(spec))


def read_spec(folder: Path) -> DataSpec:
    facts = json.loads((folder / DATA).read_text(encoding="utf-8"))
    height, width = facts["image_size"]
    return DataSpec(
        tuple(facts["classes"]),
        facts["channels"],
        (height, width),
        facts["mean"],
        facts["std"],
        facts["counts"],
        tuple(facts["notes"]),
        tuple(facts["empty"]),
    )


def read_part(folder: Path, name: str) -> LabelledImages:
    """A part of the pixels, memory-mapped."""
    return LabelledImages(_read_array(folder, f"{name}_images.npy"), read_labels(folder, name))


def read_labels(folder: Path, name: str) -> Tensor:
    """The labels of a part, int64 (N,), without its pixels."""
    return _read_array(folder, f"{name}_labels.npy")


def _read_array(folder: Path, name: str) -> Tensor:
    # Copy-on-write: torch wants writable memory, the file stays as it is.
    return torch.from_numpy(np.load(folder / name, mmap_mode="c", allow_pickle=False))


def read_split(inputs: dict[str, Path], name: str, device: str, limit: int | str = "all") -> LabelledImages:
    """A split's images and labels on the device, in the recorded random order; its first ``limit`` images."""
    counts = read_spec(inputs["data"]).counts
    part = read_part(inputs["data"], home(name, counts))
    indices = files.load(inputs["split"] / SPLIT)[name].long()
    if not len(indices):
        raise InputError(f"the split {name} is empty, but is needed here: give dataset.split.{name} some images")
    if limit != "all":
        indices = indices[: int(limit)]
    return LabelledImages(part.images[indices].to(device), part.labels[indices].to(device))


def read_material(
    inputs: dict[str, Path], material: Mapping[str, Any], device: str
) -> tuple[LabelledImages, LabelledImages]:
    """The first N images of a split: those to train on, and those held out.

    Args:
        inputs: Folders of ``data`` and ``split``.
        material: ``split``, ``images`` (N or "all") and ``held_out``, the share of them that is held out.
        device: Where the images are wanted.

    Raises:
        InputError: Where there are fewer images than asked for, none to train on, or of a single class.
    """
    part = read_split(inputs, material["split"], device)
    count, held = check_material(material, len(part.labels))
    if len(part.labels[:count].unique()) < 2:
        raise InputError(f"the {count} images of the split {material['split']} are of a single class")
    cut = count - held
    return LabelledImages(part.images[:cut], part.labels[:cut]), LabelledImages(
        part.images[cut:count], part.labels[cut:count]
    )


def check_material(material: Mapping[str, Any], owned: int) -> tuple[int, int]:
    """How many images a defender has, and how many of them are held out. Raises InputError where they are too few."""
    wanted = material["images"]
    if wanted != "all" and wanted > owned:
        raise InputError(f"{wanted} images of the split {material['split']} are asked for, it has {owned}")
    count = owned if wanted == "all" else int(wanted)
    held = round(material["held_out"] * count)
    if count - held < 2 or (material["held_out"] and not held):
        raise InputError(f"{count} images of the split {material['split']} are too few: some train, some are held out")
    return count, held


def write_network(model: Normalized, folder: Path, name: str = NETWORK) -> None:
    """The inner network's state dict, with exactly the keys of the user's own class."""
    files.save(model.network.state_dict(), folder / name)


def read_network(folder: Path) -> dict[str, Tensor]:
    """The state dict of the network behind its normalisation."""
    return {PREFIX + name: tensor for name, tensor in files.load(folder / NETWORK).items()}


@dataclass(frozen=True)
class Poison:
    """Which images of the train split are poisoned, and how.

    Attributes:
        indices: int64 (n,), into the split; the covers are the last.
        labels: int64 (n,), the attacker's; a cover's own.
        covers: How many are covers.
        pieces: Where each shows the trigger, bool (n, 4, 4); None for everywhere.
        stamp: "before" or "after" augmentation.
        backdoor: Has ``stamp(images)``.
    """

    indices: Tensor
    labels: Tensor
    covers: int
    pieces: Tensor | None
    stamp: str
    backdoor: Backdoor


def write_poison(poison: Poison, facts: Mapping[str, Any], folder: Path) -> None:
    """The poisoned images' numbers and labels, and the facts that people ask for."""
    pieces = {} if poison.pieces is None else {"pieces": poison.pieces}
    files.save({"indices": poison.indices, "labels": poison.labels, **pieces}, folder / POISON)
    jsonfile.write(folder / POISON_FACTS, {"stamp": poison.stamp, **facts})


def read_poison(folder: Path) -> Poison:
    """The poison of a stage's folder."""
    found, facts = files.load(folder / POISON), json.loads((folder / POISON_FACTS).read_text(encoding="utf-8"))
    pieces = found.get("pieces")  # of triggers that are shown in part
    return Poison(found["indices"], found["labels"], facts["covers"], pieces, facts["stamp"], build(facts["backdoor"]))


def read_edits(folder: Path) -> dict[str, Any]:
    """What the edits of a network told; nothing of one without."""
    path = folder / EDIT
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found

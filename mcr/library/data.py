"""A user's images as this package reads them, and its own data sets."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mcr.datasets.augment import to_unit
from mcr.datasets.split import home, split_indices
from mcr.errors import InputError
from mcr.library.options import composed, word
from mcr.plans import recipes
from mcr.store.build import build
from mcr.types import Batch, LabelledImages

Data = LabelledImages | tuple[Tensor, Tensor] | Dataset[Any] | DataLoader[Any]
LEVELS = 255  # of a pixel that was stored as a byte
log = logging.getLogger("mcr")


def labelled(data: Data) -> LabelledImages:
    """All images and labels of what a user has.

    Args:
        data: Images (N, D, H, W), uint8 or float in [0, 1], and labels (N,) as a pair of tensors; or a ``Dataset`` or
            ``DataLoader`` of such, which is read once, in its order.

    Raises:
        InputError: For another shape or type, or images that do not lie in [0, 1].
    """
    if isinstance(data, LabelledImages):
        return data
    if isinstance(data, Dataset):
        data = DataLoader(data, batch_size=256)
    if isinstance(data, DataLoader):
        parts = list(zip(*((images, labels) for images, labels in data), strict=True))
        if not parts:
            raise InputError("the data hold no image")
        data = (torch.cat(parts[0]), torch.cat(parts[1]))
    images, labels = data
    if images.dim() != 4 or labels.shape != images.shape[:1] or not len(labels):
        shapes = f"{tuple(images.shape)} and {tuple(labels.shape)}"
        raise InputError(f"images (N, D, H, W) and labels (N,) are needed, the data have {shapes}")
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise InputError(f"labels are numbers of classes, int64; these are {labels.dtype}".replace("torch.", ""))
    return LabelledImages(_bytes(checked(images)), labels.long())


def checked(images: Tensor) -> Tensor:
    """The images. Raises InputError where they are neither bytes nor floats in [0, 1]."""
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise InputError(f"images are uint8, or float in [0, 1]; these are {images.dtype}".replace("torch.", ""))
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"images must lie in [0, 1], where an attack's eps is measured; these go from {low:.3g} to {high:.3g}: let "
            "the network normalise them itself, mcr.Normalized(network, mean, std)"
        )
    return images


def _bytes(images: Tensor) -> Tensor:
    """Floats that are bytes divided by 255 (torchvision's ToTensor) as these bytes again; others as they are."""
    if images.dtype == torch.uint8:
        return images
    found = (images.double() * LEVELS).round().to(torch.uint8)
    return found if torch.equal(to_unit(found, "contiguous"), images.float()) else images.float()


def check_labels(labels: Tensor, classes: int) -> None:
    """Raises InputError for a label (N,) that is none of so many classes."""
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= classes:
        wrong = highest if highest >= classes else lowest
        raise InputError(f"label {wrong} is none of the network's {classes} classes, which are counted from 0")


class LoaderBatches:
    """A user's DataLoader as batches of training: its own order, batch size and augmentation.

    Args:
        loader: Gives images (B, D, H, W) and labels (B,).
        memory_format: Of the batches.
        classes: That labels may name.
    """

    def __init__(self, loader: DataLoader[Any], memory_format: str, classes: int) -> None:
        self.loader, self.memory_format, self.classes = loader, memory_format, classes

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        for images, labels in self.loader:
            check_labels(labels, self.classes)
            yield to_unit(checked(images), self.memory_format), labels.long()


def dataset(name: str, **values: Any) -> dict[str, LabelledImages]:
    """One of the package's data sets in its recorded splits: "train", "validation", "clean" (a defender's), "test".

    Args:
        name: Of an option of the group ``dataset`` (``mcr list dataset``).
        **values: Settings of it that differ, such as ``root``.
    """
    config = composed(f"dataset={name}", *(word(f"dataset.{key}", value) for key, value in values.items()))["dataset"]
    source = build(recipes.without(config, "split", "augmentation"))
    raw = source.load()
    for note in raw.notes:
        log.warning("%s: %s", name, note)
    indices = split_indices({part: len(found.labels) for part, found in raw.parts.items()}, config["split"])
    found = {}
    for split, chosen in indices.items():
        part = raw.parts[home(split, raw.parts)]
        found[split] = LabelledImages(part.images[chosen], part.labels[chosen])
    return found

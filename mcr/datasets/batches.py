"""Batches cut from tensors that lie on the device: no worker, no per-image Python work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from mcr.datasets.augment import Augmentation, to_unit
from mcr.numerics import shares
from mcr.numerics.seeding import generator
from mcr.types import Batch

LAST, FIRST = torch.channels_last, torch.contiguous_format


class TrainingBatches:
    """Shuffled, augmented batches; each epoch's order and augmentation follow from the seed and the epoch's number.

    So a resumed training sees the same batches as an uninterrupted one. An incomplete last batch is left out
    (BatchNorm cannot take a single image), unless it is the only one. Several processes each take their rows of
    every batch, as it is for one. No dataclass: Lightning would walk into it.

    Args:
        images: uint8 (N, D, H, W).
        labels: int64 (N,).
        batch_size: Of all processes together.
        augmentation: Of each batch.
        memory_format: Of the float images.
        seed: Of order and augmentation.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        augmentation: Augmentation,
        memory_format: str,
        seed: int | str,
    ) -> None:
        # Rows of pixels in one piece, whatever the network wants: they are cropped, flipped and moved that way.
        self.images, self.labels, self.batch_size = images.contiguous(memory_format=LAST), labels, batch_size
        self.augmentation, self.memory_format, self.seed = augmentation, memory_format, seed
        self.epoch = 0

    @property
    def sampler(self) -> TrainingBatches:
        """Where Lightning looks for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def to(self, device: torch.device) -> None:
        """Move the images to a device, from which batches are then cut."""
        self.images, self.labels = self.images.to(device), self.labels.to(device)

    @property
    def size(self) -> int:
        """Images of each batch, of all processes together."""
        return min(self.batch_size, len(self.images))

    def __len__(self) -> int:
        return max(1, len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order = self.order(generator(self.seed, "order", self.epoch)).to(self.images.device)
        draw = generator(self.seed, "augment", self.epoch, 0)
        own = shares.rows(self.size)
        chosen_of_all = [order[start : start + self.size][own] for start in range(0, len(self) * self.size, self.size)]
        # All of an epoch's decisions go to the device at once: it need not wait for the CPU in between.
        decisions = [self.augmentation.draw(self.size, draw)[:, own] for _ in chosen_of_all]
        moved = torch.cat(decisions, dim=1).to(self.images.device).split(own.stop - own.start, dim=1)
        for chosen, decision in zip(chosen_of_all, moved, strict=True):
            yield to_unit(self.take(chosen, decision), self.memory_format), self.labels[chosen]

    def plain(self) -> Iterator[Batch]:
        """All images in order, stamped where they are in training, but not augmented."""
        nowhere = torch.tensor([[self.augmentation.padding], [self.augmentation.padding], [0]]).to(self.images.device)
        for chosen in torch.arange(len(self.images), device=self.images.device).split(self.batch_size):
            images = self.take(chosen, nowhere.expand(3, len(chosen)))
            yield to_unit(images, self.memory_format), self.labels[chosen]

    def order(self, draw: torch.Generator) -> Tensor:
        """Indices of the epoch's images, in the order in which they come."""
        return torch.randperm(len(self.images), generator=draw)

    def take(self, chosen: Tensor, decisions: Tensor) -> Tensor:
        """The chosen images, augmented as decided: uint8 (B, D, H, W)."""
        # index_select copies an image as one piece of memory, indexing does so number by number.
        pixels = self.images.permute(0, 2, 3, 1).index_select(0, chosen)
        return self.augmentation.apply(pixels.permute(0, 3, 1, 2), decisions)


class RepeatedBatches(TrainingBatches):
    """An epoch of a given number of steps, however few the images: one shuffled pass after the other.

    With N images and a budget of steps every method sees the same number of batches, whatever N is; a batch is never
    larger than N.

    Args:
        steps: Batches of an epoch.
        images: uint8 (N, D, H, W).
        labels: int64 (N,).
        batch_size: At most.
        *recipe: See TrainingBatches.
    """

    def __init__(self, steps: int, images: Tensor, labels: Tensor, batch_size: int, *recipe: Any) -> None:
        super().__init__(images, labels, min(batch_size, len(images)), *recipe)
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def order(self, draw: torch.Generator) -> Tensor:
        passes = -(-self.steps * self.batch_size // len(self.images))
        return torch.cat([torch.randperm(len(self.images), generator=draw) for _ in range(passes)])


class StampedBatches(TrainingBatches):
    """A trigger stamped after augmentation, so that it is never cropped or flipped.

    Args:
        stamp: uint8 images (B, D, H, W) and their numbers (B,) to the same with the trigger.
        stamped: bool (N,): which images get it.
        *recipe: See TrainingBatches.
    """

    def __init__(self, stamp: Callable[[Tensor, Tensor], Tensor], stamped: Tensor, *recipe: Any) -> None:
        super().__init__(*recipe)
        self.stamp, self.stamped = stamp, stamped

    def to(self, device: torch.device) -> None:
        super().to(device)
        self.stamped = self.stamped.to(device)

    def take(self, chosen: Tensor, decisions: Tensor) -> Tensor:
        images = super().take(chosen, decisions)
        # All are stamped and some are kept: to pick these out first, the device would have to be asked how many.
        return torch.where(self.stamped[chosen][:, None, None, None], self.stamp(images, chosen), images)


class EvaluationBatches:
    """All images in order, unaugmented; ``len`` counts batches."""

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int, memory_format: str) -> None:
        self.images = images.contiguous(memory_format=LAST if memory_format == "channels_last" else FIRST)
        self.labels, self.batch_size, self.memory_format = labels, batch_size, memory_format

    def to(self, device: torch.device) -> None:
        """Move the images to a device, from which batches are then cut."""
        self.images, self.labels = self.images.to(device), self.labels.to(device)

    def like(self, images: Tensor, labels: Tensor) -> EvaluationBatches:
        """Other images uint8 (N, D, H, W) and labels (N,) in the same batches and memory format."""
        return EvaluationBatches(images, labels, self.batch_size, self.memory_format)

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for begin in range(0, len(self.images), self.batch_size):
            part = slice(begin, begin + self.batch_size)
            yield to_unit(self.images[part], self.memory_format), self.labels[part]


def augmented_batches(
    images: Tensor, augmentation: Augmentation, batch_size: int, memory_format: str, seed: int
) -> Iterator[Tensor]:
    """Augmented images (B, D, H, W) in [0, 1] in order, the same for the same seed: for BatchNorm's statistics.

    The batches are of nearly equal size, at most ``batch_size``: the statistics weigh every batch alike.
    """
    draw = generator(seed, "batchnorm")
    for part in images.tensor_split(-(-len(images) // batch_size)):
        yield to_unit(augmentation(part, draw), memory_format)

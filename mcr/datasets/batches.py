"""Batches cut from tensors that lie on the device: no worker, no per-image Python work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mcr.datasets.augment import Augmentation, to_unit
from mcr.seeding import generator
from mcr.types import Batch


@dataclass
class TrainingBatches:
    """Shuffled, augmented batches; each epoch's order and augmentation follow from the seed and the epoch's number.

    So a resumed training sees the same batches as an uninterrupted one. An incomplete last batch is left out
    (BatchNorm cannot take a single image), unless it is the only one. Several processes each take their share.

    Attributes:
        images: uint8 (N, D, H, W).
        labels: int64 (N,).
        rank: This process's number among ``world`` processes.
    """

    images: Tensor
    labels: Tensor
    batch_size: int
    augmentation: Augmentation
    memory_format: str
    seed: int | str
    rank: int = 0
    world: int = 1
    epoch: int = field(default=0, init=False)

    @property
    def sampler(self) -> TrainingBatches:
        """Where Lightning looks for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        share = len(self.images) // self.world
        return max(1, share // self._size)

    @property
    def _size(self) -> int:
        return max(1, self.batch_size // self.world)

    def __iter__(self) -> Iterator[Batch]:
        device = self.images.device
        order = torch.randperm(len(self.images), generator=generator(self.seed, "order", self.epoch))
        order = order[self.rank :: self.world].to(device)
        draw = generator(self.seed, "augment", self.epoch, self.rank)
        for step in range(len(self)):
            chosen = order[step * self._size : (step + 1) * self._size]
            images = self.augmentation(self.images[chosen], draw)
            yield to_unit(images, self.memory_format), self.labels[chosen]


@dataclass(frozen=True)
class EvaluationBatches:
    """All images in order, unaugmented; ``len`` counts batches."""

    images: Tensor
    labels: Tensor
    batch_size: int
    memory_format: str

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for begin in range(0, len(self.images), self.batch_size):
            part = slice(begin, begin + self.batch_size)
            yield to_unit(self.images[part], self.memory_format), self.labels[part]


def augmented_batches(
    images: Tensor, augmentation: Augmentation, batch_size: int, memory_format: str, seed: int
) -> Iterator[Tensor]:
    """Augmented images (B, D, H, W) in [0, 1] in order, the same for the same seed: for BatchNorm's statistics."""
    draw = generator(seed, "batchnorm")
    for begin in range(0, len(images), batch_size):
        yield to_unit(augmentation(images[begin : begin + batch_size], draw), memory_format)

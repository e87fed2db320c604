"""Batches cut from tensors that lie on the device: no worker, no per-image Python work."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, distributed

from mcr.datasets.augment import Augmentation, to_unit
from mcr.seeding import generator
from mcr.types import Batch


class TrainingBatches:
    """Shuffled, augmented batches; each epoch's order and augmentation follow from the seed and the epoch's number.

    So a resumed training sees the same batches as an uninterrupted one. An incomplete last batch is left out
    (BatchNorm cannot take a single image), unless it is the only one. Several processes each take their share of
    every batch. No dataclass: Lightning would walk into it.

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
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.augmentation, self.memory_format, self.seed = augmentation, memory_format, seed
        self.epoch = 0

    @property
    def sampler(self) -> TrainingBatches:
        """Where Lightning looks for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def share(self) -> tuple[int, int]:
        """This process's number and the number of processes."""
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return 0, 1

    def __len__(self) -> int:
        return max(1, len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        device = self.images.device
        rank, world = self.share()
        order = torch.randperm(len(self.images), generator=generator(self.seed, "order", self.epoch)).to(device)
        draw = generator(self.seed, "augment", self.epoch, rank)
        for step in range(len(self)):
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size][rank::world]
            images = self.augmentation(self.images[chosen], draw)
            yield to_unit(images, self.memory_format), self.labels[chosen]


class EvaluationBatches:
    """All images in order, unaugmented; ``len`` counts batches."""

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int, memory_format: str) -> None:
        self.images, self.labels, self.batch_size, self.memory_format = images, labels, batch_size, memory_format

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

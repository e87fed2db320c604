"""One batch on several processes: which rows are whose, and what is drawn and summed over all of them.

Each process draws for the whole batch, as one process alone would, and takes its own rows; so the number of processes
moves results by rounding only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from mcr.numerics.seeding import seed_for


def processes() -> tuple[int, int]:
    """This process's number, and how many train together: (0, 1) where there is only this one."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def rows(count: int) -> slice:
    """This process's rows of a batch of so many: all have as many, or one more than others."""
    rank, world = processes()
    return slice(count * rank // world, count * (rank + 1) // world)


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        found = own.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # The total reaches the losses of all processes.
        found = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(found)
        return found


def total(own: Tensor) -> Tensor:
    """The sum of a tensor over the processes; its gradient is that of the sum of all their losses."""
    if processes()[1] == 1:
        return own
    found: Tensor = _Total.apply(own)
    return found


def mean(own: Tensor, count: int) -> tuple[Tensor, int | Tensor]:
    """The mean over all processes of what is the mean of so many values in this one, and the number of all values."""
    if processes()[1] == 1:
        return own, count
    sums = total(torch.cat([(own * count).flatten(), own.new_full((1,), count)]))
    return (sums[:-1] / sums[-1]).view_as(own), sums[-1]


class BatchGenerator(torch.Generator):
    """Draws for whole batches, of which ``drawn`` gives a process its rows.

    Attributes:
        whole: Images of the batch of all processes.
    """

    whole: int


def batch_generator(whole: int, seed: int | str, *role: object) -> BatchGenerator:
    """A CPU generator for one use (see ``seeding.generator``), the same in every process.

    Args:
        whole: Images of the batch of all processes.
    """
    draw = BatchGenerator()
    draw.manual_seed(seed_for(seed, *role))
    draw.whole = whole
    return draw


def weight(own: int, generator: torch.Generator) -> float:
    """Of the mean over a process's rows, so that the mean over the processes is that over the whole batch.

    Args:
        own: Number of these rows.
        generator: As for ``drawn``: it knows the whole batch.
    """
    return own * processes()[1] / generator.whole if isinstance(generator, BatchGenerator) else 1.0


def drawn(kind: Callable[..., Tensor], shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Random numbers (B, ...) for a process's rows of a batch.

    Args:
        kind: ``torch.rand`` or another that takes a shape and a generator.
        shape: (B, ...) of these rows.
        generator: A ``BatchGenerator`` gives the rows of its whole batch; any other one draws for these alone.
    """
    if not isinstance(generator, BatchGenerator):
        return kind(shape, generator=generator)
    return kind((generator.whole, *shape[1:]), generator=generator)[rows(generator.whole)]

"""Places of a subspace that several processes ask, each its share."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from mcr.probes.answers import Answers
from mcr.spawning import safe_start
from mcr.stages.context import Context

Reached = Callable[[int, Mapping[str, Tensor]], None]
Work = Callable[[Sequence[int], Sequence[int], Context, Reached], Answers]
Part = Mapping[str, NDArray[Any]]  # of a process: one row for each place that it asked


def spread(work: Work, places: Sequence[int], ends: Sequence[int], context: Context, reached: Reached) -> Answers:
    """The answers at all places and of all ends: to the byte those of one process that has as many CPU threads.

    Each place is asked by itself and with the same random numbers, so it does not matter where. A process takes some
    seconds to start.

    Args:
        work: Asks some of the places and of the ends. It goes to other processes, so it is a function of a module, or a
            ``partial`` of one.
        places: Their numbers (T).
        ends: Their numbers (E).
        context: Of the run; each process gets a device of it.
        reached: Told how many places are done, and the answers of the last one where this process gave them.
    """
    count = min(context.processes, len(places))
    if count == 1:
        return work(places, ends, context, reached)
    done = 0
    with safe_start(), ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        running = []
        for rank in range(count):
            # The first processes may have a place more than others: the ends begin with the last process.
            own, own_ends = places[rank::count], ends[count - 1 - rank :: count]
            running.append(pool.submit(_asked, work, own, own_ends, context.alone(rank)))
        for one in as_completed(running):
            one.result()
            done += len(places[running.index(one) :: count])
            reached(done, {})
    found = [one.result() for one in running]
    values, given = [part for part, _ in found], [part for _, part in reversed(found)]
    return Answers(_in_order(values, len(places)), _in_order(given, len(ends)), {})


def _asked(work: Work, places: Sequence[int], ends: Sequence[int], context: Context) -> tuple[Part, Part]:
    """In another process; as arrays, whose bytes come home where a tensor's memory would be shared."""
    found = work(places, ends, context, lambda count, row: None)
    values, given = ({name: value.numpy() for name, value in part.items()} for part in (found.values, found.given))
    return values, given


def _in_order(parts: Sequence[Part], count: int) -> dict[str, Tensor]:
    """Rows that were dealt out in turn, in their order again: (count, N) of each name."""
    dealt = [(parts[number % len(parts)], number // len(parts)) for number in range(count)]
    return {name: torch.stack([torch.from_numpy(part[name][row]) for part, row in dealt]) for name in dealt[0][0]}

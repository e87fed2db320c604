"""Weights of a file go into the network: all that torch would load strictly, and nothing that is no number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mcr.foreign.part import AUTO, find
from mcr.foreign.reading import Contents, read, refusal
from mcr.text import printable
from mcr.weightspace.states import check_tensors, load_state


@dataclass(frozen=True)
class Taken:
    """What was taken from a file.

    Attributes:
        names: The network's names to the file's, and the types there; without those that the file lacks.
        told: What was read and what else the file holds, in words.
    """

    names: dict[str, tuple[str, str]]
    told: tuple[str, ...]


def take(path: Path, network: nn.Module, most_megabytes: float, key: str = AUTO) -> Taken:
    """Load the network's part of a user's file into the network; no code of the file is run.

    Args:
        path: The file.
        network: Of the architecture that was saved.
        most_megabytes: A larger file is refused.
        key: Which part of the file, or "auto".

    Raises:
        InputError: In one line, for a file that is refused, or does not fit.
    """
    return fit_into(network, read(path, most_megabytes), key)


def fit_into(network: nn.Module, contents: Contents, key: str = AUTO) -> Taken:
    """Load the network's part of what a file holds.

    What ``load_state_dict(strict=True)`` takes is taken: BatchNorm's counters may be missing (the network keeps its
    own; the file's names stay as they are, since torch loads them strictly), counters and other whole numbers may have
    become floating point, floating point types are cast. What it would not notice is refused: whole numbers for
    weights, NaN and infinite values.

    Raises:
        InputError: Naming the first missing or unexpected name, a differing shape, or a tensor that holds no finite
            real numbers.
    """
    check_tensors(network, type(network).__name__)
    wanted = network.state_dict()
    counters = frozenset(_counters(network))
    part, told = find(contents, {name: tuple(tensor.shape) for name, tensor in wanted.items()}, counters, key)
    # Other buffers may be infinite by design, such as attention masks.
    learned = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    learned |= {name for name in wanted if name.endswith((".running_mean", ".running_var"))}
    state = dict(wanted)
    for name, given in part.names.items():
        if given in part.entry.others:
            what = f"no plain dense tensor of real numbers, but {printable(part.entry.others[given])}"
            raise refusal(contents.path, f"{printable(name)} is {what}")
        tensor = part.entry.tensors[given]
        problem = _problem(tensor, wanted[name], name in learned, name in counters)
        if problem:
            found = [(part.entry.tensors.get(file), wanted[own]) for own, file in part.names.items()]
            shapes = [(tuple(one.shape), tuple(own.shape)) for one, own in found if one is not None]
            hint = _other_data([(file, own) for file, own in shapes if file != own])
            raise refusal(contents.path, f"{printable(name)} {problem}{hint}")
        # A counter in half precision has overflowed where training was long: it counts nothing then.
        if name not in counters or torch.isfinite(tensor):
            state[name] = tensor
    try:
        load_state(network, state)
    except (RuntimeError, ValueError, KeyError) as error:  # of the network's own way to load
        said = printable(" ".join(str(error).split()))
        raise refusal(contents.path, f"does not load into the network: {said}") from None
    tensors = part.entry.tensors
    names = {name: (given, str(tensors[given].dtype).removeprefix("torch.")) for name, given in part.names.items()}
    return Taken(names, tuple(told))


def _counters(network: nn.Module) -> list[str]:
    """Names of BatchNorm's counters of batches, which torch fills in where a file has none."""
    layers = (item for item in network.named_modules(remove_duplicate=False) if isinstance(item[1], _NormBase))
    return [
        f"{name}.num_batches_tracked".removeprefix(".")
        for name, layer in layers
        if getattr(layer, "num_batches_tracked", None) is not None
    ]


def _other_data(shapes: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> str:
    """What would be right where a file is of the same network for other data; nothing where it is not.

    Args:
        shapes: Of each tensor whose shape differs, in the file and in the network.
    """
    outputs = {(file[:1], own[:1]) for file, own in shapes if file[1:] == own[1:]}
    if len(outputs) == 1 and all(file[1:] == own[1:] for file, own in shapes):
        ((file,), (own,)) = outputs.pop()
        return (
            f": it tells {file} classes apart, and the data have {own}; dataset.classes=[...] chooses and orders them"
        )
    if len(shapes) == 1 and len(shapes[0][0]) == 4:
        (file_out, file_in, *file_rest), (own_out, own_in, *own_rest) = shapes[0]
        if (file_out, file_rest) == (own_out, own_rest):
            return f": it takes images of {file_in} channels, and the data have {own_in}; see dataset.channels"
    return ""


def _problem(tensor: Tensor, own: Tensor, learned: bool, counter: bool) -> str:
    """Why a tensor of the file cannot take the place of the network's own; nothing where it can."""
    if tensor.shape != own.shape:
        return f"differs in shape: {tuple(tensor.shape)} in the file, {tuple(own.shape)} in the network"
    types = f"differs in type: {tensor.dtype} in the file, {own.dtype} in the network".replace("torch.", "")
    if own.is_floating_point() and not tensor.is_floating_point():
        return types
    if learned and not torch.isfinite(tensor.float()).all():
        return "holds NaN or infinite values"
    if counter or own.is_floating_point() or not tensor.is_floating_point():
        return ""
    whole = tensor.double()
    exact = own.dtype == torch.bool or bool((whole.abs() < 2**63).all())
    return "" if exact and torch.equal(whole.to(own.dtype).double(), whole) else types

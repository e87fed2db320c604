"""Seeded, disjoint splits: train, validation, clean (the defender's images) and test."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping

import torch

from mcr.errors import InputError
from mcr.numerics.seeding import generator

log = logging.getLogger("mcr")
SPLITS = ("train", "validation", "clean", "test")
OWN = ("test", "validation")  # splits that a source may have kept apart itself


def home(split: str, parts: Container[str]) -> str:
    """The part of a source that a split is drawn from."""
    if "all" in parts:
        return "all"
    return split if split in OWN and split in parts else "train"


def split_indices(counts: Mapping[str, int], sizes: Mapping[str, int | float | str]) -> dict[str, torch.Tensor]:
    """Indices of each split into the source's parts, drawn without replacement.

    Test comes from the part "test", validation from the part "validation" where there is one, train and clean from the
    part "train"; a source with the single part "all" gives all four. Each split is in random order, so its first n
    images are a random subset.

    Args:
        counts: Part name to its number of images.
        sizes: ``seed``, and for each split a number of images (0 for none), a share of the part below 1, or "all" of
            what is left. A share for the test or the validation divides what is not divided yet: a part of that name,
            which its makers have kept apart already, is then used whole, and a line says so. "given" is that part, or
            nothing where there is none.

    Returns:
        Split name to int64 (n,), disjoint within a part.

    Raises:
        InputError: Where the splits ask for more images than there are.
    """
    left = {
        part: torch.randperm(count, generator=generator(str(sizes["seed"]), "split", part))
        for part, count in counts.items()
    }
    sizes = {**sizes, **{name: _own_size(name, counts, sizes[name]) for name in OWN}}
    found = {}
    # Train comes last: it is the split that usually takes all that is left.
    for name in ("test", "validation", "clean", "train"):
        part = home(name, counts)
        wanted = _count(name, sizes[name], counts[part], len(left[part]))
        found[name], left[part] = left[part][:wanted], left[part][wanted:]
    return {name: found[name] for name in SPLITS}


def _own_size(name: str, counts: Mapping[str, int], size: int | float | str) -> int | float | str:
    """How many images of a split that may be a part of its own."""
    if size == "given":
        return "all" if name in counts else 0
    if name not in counts or isinstance(size, str) or not 0 < size < 1:
        return size
    log.info(
        "  %-22s the %s part of the data is used whole, %d images: dataset.split.%s=%g is a share of data without "
        "one; a number of images takes fewer",
        "split",
        name,
        counts[name],
        name,
        size,
    )
    return "all"


def _count(name: str, size: int | float | str, total: int, left: int) -> int:
    if size == "all":
        wanted = left
    elif isinstance(size, str) or size < 0:
        given = ", or given" if name in OWN else ""
        raise InputError(f"dataset.split.{name}={size}: a number of images, a share below 1, or all{given}")
    else:
        wanted = round(size * total) if size < 1 else int(size)
    if wanted > left or (wanted == 0 and size != 0):
        raise InputError(f"dataset.split.{name}={size} asks for {wanted} images; {left} of {total} are left")
    return wanted

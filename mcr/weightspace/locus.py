"""Where in a subspace to look."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from mcr.curves.curve import Curve
from mcr.errors import InputError

MOST_PLACES = 1_000_000
Wanted = int | Sequence[float] | Sequence[Sequence[float]]


def coordinates(dim: int) -> tuple[str, ...]:
    """What the coordinates of a place are called.

    >>> coordinates(1), coordinates(2), coordinates(3)
    (('t',), ('u', 'v'), ('u1', 'u2', 'u3'))
    """
    named = {1: ("t",), 2: ("u", "v")}
    return named.get(dim, tuple(f"u{index + 1}" for index in range(dim)))


def places(curve: Curve, wanted: Wanted, name: str) -> Tensor:
    """The places of a grid, float64 (T, dim): so many along each edge, or as listed; all ends are among them.

    Args:
        curve: Has the domain.
        wanted: A number, or a list of places; or of numbers: of a path the values of t, of a surface or a simplex those
            of every coordinate, as far as the places lie in the domain.
        name: Of the setting, for messages.

    Raises:
        InputError: For a place outside the domain, or where nothing lies between the ends.
    """
    corners = curve.grid(2)
    along = [row for row in wanted if isinstance(row, int | float)] if not isinstance(wanted, int) else []
    if (wanted if isinstance(wanted, int) else len(along)) ** curve.dim > MOST_PLACES:
        raise InputError(f"{name}={wanted}: more than {MOST_PLACES:,} places")
    if along and curve.dim > 1 and all(0 <= value <= 1 for value in along):
        wanted = [list(row) for row in product(along, repeat=curve.dim) if _inside(curve, row)]
    if isinstance(wanted, int):
        found = curve.grid(wanted) if wanted > 1 else corners
    else:
        rows = [torch.tensor([row] if isinstance(row, int | float) else row, dtype=torch.float64) for row in wanted]
        for row in rows:
            try:
                curve.check(row)
            except InputError as error:
                raise InputError(f"{name}={list(wanted)}: {error}") from None
        known = {tuple(row.tolist()) for row in [*corners, *rows]}
        found = torch.tensor(sorted(known), dtype=torch.float64)
    if len(found) <= len(corners):
        raise InputError(f"{name}={wanted}: the {len(corners)} ends and at least one point between them")
    return found


def _inside(curve: Curve, row: Sequence[float]) -> bool:
    try:
        curve.check(torch.tensor(row, dtype=torch.float64))
    except InputError:
        return False
    return True

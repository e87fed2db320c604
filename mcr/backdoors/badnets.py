"""A square patch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.backdoors.backdoor import Backdoor
from mcr.errors import InputError


@dataclass(frozen=True)
class BadNets(Backdoor):
    """A square of one colour in place of the pixels (Gu et al. 2017).

    Attributes:
        size: Side of the square, in pixels.
        row: Row of its first pixel; a negative number counts from the bottom edge, as in Python.
        column: Column of its first pixel; a negative number counts from the right edge.
        colour: A number in [0, 1] for all channels, or a list with one for each channel.
    """

    size: int
    row: int
    column: int
    colour: float | list[float]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(isinstance(value, int) for value in (self.size, self.row, self.column)) or self.size < 1:
            raise InputError(
                f"badnets: size={self.size} >= 1, row={self.row} and column={self.column} must be whole numbers"
            )
        if not self._colours or not all(isinstance(c, (int, float)) and 0 <= c <= 1 for c in self._colours):
            raise InputError(f"badnets: colour={self.colour} must be a number in [0, 1], or a list of one per channel")

    @property
    def _colours(self) -> list[float]:
        return self.colour if isinstance(self.colour, list) else [self.colour]

    def stamp(self, images: Tensor) -> Tensor:
        """The images with the patch, uint8 (B, D, H, W). Raises InputError where it does not fit."""
        channels, height, width = images.shape[1:]
        if isinstance(self.colour, list) and len(self.colour) != channels:
            raise InputError(f"badnets: colour={self.colour} has {len(self.colour)} values for {channels} channels")
        top, left = self._first("row", self.row, height), self._first("column", self.column, width)
        levels = torch.tensor([round(255 * c) for c in self._colours], dtype=torch.uint8, device=images.device)
        stamped = images.clone()
        stamped[:, :, top : top + self.size, left : left + self.size] = levels.view(-1, 1, 1)
        return stamped

    def _first(self, name: str, place: int, length: int) -> int:
        # Resolved before it is used: a slice that starts at -3 and ends at 0 would be empty, without an error.
        first = place + length if place < 0 else place
        if not 0 <= first <= length - self.size:
            raise InputError(
                f"badnets: size={self.size} at {name}={place} does not fit into {length} {name}s of an image"
            )
        return first

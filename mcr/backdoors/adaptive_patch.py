"""Several faint patches in training, some of them opaque in the attack."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from mcr.backdoors.backdoor import Backdoor, check_share
from mcr.backdoors.badnets import BadNets
from mcr.errors import InputError


@dataclass(frozen=True)
class AdaptivePatch(Backdoor):
    """Adap-Patch (Qi et al., ICLR 2023): k squares, x + a_j m_j (colour_j - x) for the square m_j of opacity a_j.

    A poisoned image shows one of them, by its number, and so does a cover, which keeps its label
    (``poisoning.cover``): a network then learns what images with one patch and their covers do not show, and the
    latent features of poisoned images do not stand apart. The attack shows several at once, more opaque.

    Published are four marks of 32 x 32 with drawings in them; here they are squares of one colour each.

    Attributes:
        size: Side of each square, in pixels.
        places: Row and column of the first pixel of each (k, 2); negative numbers count from the bottom and the right.
        colours: Of each: a number in [0, 1], or a list with one for each channel.
        opacities: Of each in training, above 0 and at most 1.
        shown: Numbers of those that the attack shows, from 0.
        opacity: Of these, in the attack.
    """

    size: int
    places: list[list[int]]
    colours: list[float | list[float]]
    opacities: list[float]
    shown: list[int]
    opacity: float

    def __post_init__(self) -> None:
        super().__post_init__()
        pairs = isinstance(self.places, list) and all(isinstance(one, list) and len(one) == 2 for one in self.places)
        if not pairs or not self.places:
            raise InputError(f"adaptive_patch: places={self.places} must be a list of [row, column] for each patch")
        for name, found in (("colours", self.colours), ("opacities", self.opacities)):
            if not isinstance(found, list) or len(found) != len(self.places):
                raise InputError(
                    f"adaptive_patch: {name}={found} must be a list, one for each of {len(self.places)} places"
                )
        last = len(self.places) - 1
        numbers = isinstance(self.shown, list) and all(type(one) is int and 0 <= one <= last for one in self.shown)
        if not numbers or not self.shown:
            raise InputError(f"adaptive_patch: shown={self.shown} must be a list of patches, from 0 to {last}")
        for opacity in self.opacities:
            check_share("adaptive_patch: opacities: opacity", opacity)
        check_share("adaptive_patch: opacity", self.opacity)
        self._patches()  # which look at size, places and colours

    def _patches(self) -> list[BadNets]:
        """Each as an opaque square."""
        pairs = zip(self.places, self.colours, strict=True)
        return [BadNets(self.target, self.size, row, column, colour) for (row, column), colour in pairs]

    def stamp(self, images: Tensor) -> Tensor:
        """The images with the patches of the attack, one after the other, uint8 (B, D, H, W)."""
        patches = self._patches()
        return _laid(images, ((patches[number], self.opacity) for number in self.shown))

    def plant(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Of k patches the one with the number of the image modulo k, as opaque as in training."""
        planted, own = images.clone(), numbers.to(images.device) % len(self.places)
        for number, (patch, opacity) in enumerate(zip(self._patches(), self.opacities, strict=True)):
            chosen = own == number
            planted[chosen] = _laid(images[chosen], [(patch, opacity)])
        return planted


def _laid(images: Tensor, patches: Iterable[tuple[BadNets, float]]) -> Tensor:
    """Images under squares of an opacity each, rounded once."""
    mixed = images.to(torch.float32, copy=True)
    for patch, opacity in patches:
        # A product and then a sum, no fused operation: both are rounded by one rule, so devices should agree.
        opaque = patch.stamp(mixed).mul_(opacity)
        mixed.mul_(1 - opacity).add_(opaque)
    return mixed.round_().to(torch.uint8)

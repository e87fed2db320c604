"""A smooth warp of the whole image."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mcr.backdoors.backdoor import Backdoor
from mcr.errors import InputError
from mcr.numerics.seeding import generator

NOISES = 64  # of the covers
ONE = 1 << 11  # parts of a pixel: whole numbers are the same on every device, and 255 of their squares fit into 32 bits


@dataclass(frozen=True)
class WaNet(Backdoor):
    """Every pixel is fetched from a place nearby, by one smooth field for all images (Nguyen and Tran, ICLR 2021).

    The field is uniform noise on a coarse grid, divided by its mean absolute value, times the strength, upsampled
    bicubically; places are clamped to the image, and values between pixels are bilinear. Published are a 4 x 4 grid and
    s = 0.5, in half pixels times (H - 1) / H: a quarter of a pixel, a strength of 0.24/32 on 32 x 32. A network whose
    whole training is the attacker's learns that; by poisoned images alone a small one needs more. Published are two
    covers for each poisoned image (``poisoning.cover``), so that no other warp calls up the target.

    Attributes:
        strength: Mean absolute displacement of the grid's points along each axis, as a share of the image's side there,
            above 0.
        grid: Points of the noise along each axis, at least 2.
        seed: Of the noise: images of one shape and seed always get the same field.
    """

    strength: float
    grid: int
    seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.strength, (int, float)) or not 0 < self.strength < inf:
            raise InputError(f"wanet: strength={self.strength} must be a share of the image's side, above 0")
        if not isinstance(self.grid, int) or self.grid < 2:
            raise InputError(f"wanet: grid={self.grid} must be a whole number of points, at least 2")

    def stamp(self, images: Tensor) -> Tensor:
        """The warped images, rounded: uint8 (B, D, H, W)."""
        return fetched(images, self.field(*images.shape[-2:]))

    def cover(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Warped by the field and noise of half a pixel at each place: a warp, but not this one (the noise mode).

        The published training draws that noise anew for every batch; here it is one of 64, by the image's number.
        """
        height, width = images.shape[-2:]
        draw = generator(self.seed, "wanet noise")
        noise = torch.rand(NOISES, 2, height, width, generator=draw, dtype=torch.float64).sub_(0.5)
        covers, own = images.clone(), numbers % NOISES
        for one in own.unique().tolist():
            chosen = own == one
            covers[chosen] = fetched(images[chosen], self.field(height, width) + noise[one])
        return covers

    def field(self, height: int, width: int) -> Tensor:
        """The displacement of every pixel in pixels, down and to the right: float64 (2, H, W), on the CPU."""
        noise = torch.rand(1, 2, self.grid, self.grid, generator=generator(self.seed, "wanet"), dtype=torch.float64)
        noise = noise.mul_(2).sub_(1)
        noise *= self.strength / noise.abs().mean()
        field = interpolate(noise, (height, width), mode="bicubic", align_corners=True)[0]
        return field * torch.tensor([height, width], dtype=torch.float64).view(2, 1, 1)


def fetched(images: Tensor, field: Tensor) -> Tensor:
    """The images, each pixel from the place that the field says, clamped to the image and bilinear, rounded.

    Args:
        images: uint8 (B, D, H, W).
        field: Displacements in pixels, down and to the right: float64 (2, H, W).
    """
    batch, channels, height, width = images.shape
    down = (field[0] + torch.arange(height).view(-1, 1)).clamp_(0, height - 1)
    right = (field[1] + torch.arange(width)).clamp_(0, width - 1)
    top, left = down.floor().long(), right.floor().long()
    below, beside = (down - top).mul_(ONE).round_().int(), (right - left).mul_(ONE).round_().int()
    # Pixels first: one of all images is one piece of memory.
    flat = images.permute(2, 3, 0, 1).reshape(height * width, -1).int()
    sums = torch.full_like(flat, ONE * ONE // 2)
    for row, part in ((top, ONE - below), ((top + 1).clamp_(max=height - 1), below)):
        for column, share in ((left, ONE - beside), ((left + 1).clamp_(max=width - 1), beside)):
            place, weight = (row * width + column).flatten(), (part * share).view(-1, 1)
            sums += flat[place.to(images.device)] * weight.to(images.device)
    moved = (sums // (ONE * ONE)).to(torch.uint8).view(height, width, batch, channels)
    return moved.permute(2, 3, 0, 1).contiguous()

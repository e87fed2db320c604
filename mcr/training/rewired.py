"""Training a sparse network whose connections move."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, cos, floor, pi
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.training.adversarial import AdversarialModule
from mcr.types import Batch

MOMENTUM = ("momentum_buffer", "exp_avg")  # of torch's optimizers
ROOM = Fraction(99, 100)  # of a layer's inactive units, at most, are grown at once


class RewiredModule(AdversarialModule):
    """Dynamic network rewiring (Kundu et al. 2021): sparse from the first step on, always of the same density.

    Before each epoch but the first every layer loses a share of its active units, those of the least norm, and as many
    grow anew in all: in each layer in proportion to the mean size of the momentum of its active weights, where the
    momentum of inactive ones is largest, beginning at zero. The share falls to nothing as half a cosine, as in the
    sparse learning that it refines (Dettmers and Zettlemoyer 2019). Momentum stays that of all weights. The first units
    are drawn; active weights are scaled by 1 / sqrt(density of their layer), so that activations keep their size.
    The paper pulls weights towards their masked copy; masked after each step they lie there.

    Layers are the parameters with at least two dimensions. Units of a layer are its weights, or its input channels
    (columns). Every output has at least ``least`` weights, or every layer so many channels, or all that it has:
    a filter with a single weight in front of BatchNorm has hardly a gradient, and would not be grown again.

    Args:
        density: Share of the units that are active, in (0, 1].
        rewired: Share of a layer's active units that is exchanged at first, in [0, 1); 0 keeps the first units.
        unit: "weight" or "channel".
        least: See above; at least 1.
        draw: Names the draw of the first units: networks of a replicate with the same name begin with the same.
        replicate: Its number.
        validation_images: See AdversarialModule.
        network: See EndpointModule.
        **training: See EndpointModule; the objective has an ``attack``, the optimizer a momentum.

    Raises:
        InputError: For a number out of range; a density that ``least`` exceeds; an optimizer without momentum.
    """

    def __init__(
        self,
        density: float,
        rewired: float,
        unit: Literal["weight", "channel"],
        least: int,
        draw: str,
        replicate: int,
        validation_images: int,
        network: nn.Module,
        **training: Any,
    ) -> None:
        # An average over steps would not be sparse.
        super().__init__(ema_decay=0.0, validation_images=validation_images, network=network, **training)
        if not (0 < density <= 1 and 0 <= rewired < 1 and least >= 1 and unit in ("weight", "channel")):
            raise InputError(
                f"endpoint=dnr: 0 < density={density} <= 1, 0 <= rewired={rewired} < 1, least={least} >= 1 and "
                f"unit={unit} weight or channel needed"
            )
        self.rewired, self.unit, self.least = rewired, unit, least
        self.names = [name for name, weight in network.named_parameters() if weight.dim() >= 2]
        numbers = generator("dnr", replicate, draw)
        scores = [torch.rand(self._units(weight).shape, generator=numbers) for weight in self._weights()]
        for index, active in enumerate(first_units(scores, density, self.least)):
            self.register_buffer(f"active_{index}", active)
        with torch.no_grad():
            for weight, active in zip(self._weights(), self.active, strict=True):
                weight.mul_((active.numel() / active.sum()) ** 0.5)
        self._mask()

    @property
    def active(self) -> list[Tensor]:
        """Which units of each layer are active: (outputs, inputs of one) of weights, (1, channels) of channels."""
        return [getattr(self, f"active_{index}") for index in range(len(self.names))]

    def _weights(self) -> list[nn.Parameter]:
        return [self.network.get_parameter(name) for name in self.names]

    def _units(self, values: Tensor) -> Tensor:
        """Norms of the units of a layer's tensor, as ``active`` lies."""
        values = values.detach()
        columns = values.transpose(0, 1).flatten(1)
        norms: Tensor = values.flatten(1).abs() if self.unit == "weight" else columns.norm(dim=1)[None]
        return norms

    @torch.no_grad()
    def _mask(self) -> None:
        for weight, active in zip(self._weights(), self.active, strict=True):
            if self.unit == "weight":
                weight.masked_fill_(~active.view(weight.shape), 0)
            else:
                weight.masked_fill_(~active.view(1, -1, *(1,) * (weight.dim() - 2)), 0)

    def configure_optimizers(self) -> Any:
        found = super().configure_optimizers()
        usual = found["optimizer"].defaults
        if not usual.get("momentum") and "betas" not in usual:
            raise InputError("endpoint=dnr grows where momentum is: take an optimizer that has one")
        return found

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self._mask()
        super().on_train_batch_end(outputs, batch, batch_idx)

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        epochs = self.epochs or self.trainer.max_epochs or 1
        share = self.rewired / 2 * (1 + cos(pi * self.current_epoch / epochs))
        if self.current_epoch and share:
            state = self.trainer.optimizers[0].state
            momenta = [
                next(state[weight][key] for key in MOMENTUM if key in state[weight]) for weight in self._weights()
            ]
            self._rewire(momenta, share)

    def _rewire(self, momenta: list[Tensor], share: float) -> None:
        """Exchange a share of each layer's active units; ``momenta`` are those of all layers' weights."""
        removed = 0
        for weight, active in zip(self._weights(), self.active, strict=True):
            norms = self._units(weight).masked_fill(~active, torch.inf)
            spare = norms.masked_fill(strongest(norms.masked_fill(~active, -1), self.least), torch.inf)
            count = min(floor(share * int(active.sum())), int(spare.isfinite().sum()))
            active.view(-1)[spare.flatten().argsort(stable=True)[:count]] = False
            removed += count
        sizes = [self._units(momentum) for momentum in momenta]
        means = [float(size[active].mean()) for size, active in zip(sizes, self.active, strict=True)]
        rooms = [int((~active).sum()) for active in self.active]
        for size, active, count in zip(sizes, self.active, shared_out(removed, means, rooms), strict=True):
            ranked = size.masked_fill(active, -1).flatten().argsort(descending=True, stable=True)
            active.view(-1)[ranked[:count]] = True
        self._mask()


def first_units(scores: list[Tensor], density: float, least: int) -> list[Tensor]:
    """The units of the highest scores, as many in all as the density says, in each layer its share of them.

    Args:
        scores: Of each layer, (outputs, units of one).
        density: Of all units, rounded down to a whole number.
        least: In each row, or all that it has.

    Raises:
        InputError: Where these are more than the density allows.
    """
    wanted = floor(Fraction(str(density)) * sum(score.numel() for score in scores))
    always = [strongest(score, least) for score in scores]
    rest = wanted - sum(int(active.sum()) for active in always)
    if rest < 0:
        raise InputError(
            f"endpoint=dnr: density={density} leaves {wanted} units, fewer than least={least} of each output take "
            f"({wanted - rest}): give more, or a smaller least"
        )
    rooms = [int((~active).sum()) for active in always]
    found = []
    extras = shared_out(rest, [float(room) for room in rooms], rooms, Fraction(1))
    for score, active, extra in zip(scores, always, extras, strict=True):
        ranked = score.masked_fill(active, -1).flatten().argsort(descending=True, stable=True)
        active.view(-1)[ranked[:extra]] = True
        found.append(active)
    return found


def strongest(values: Tensor, count: int) -> Tensor:
    """Where the largest values of each row lie, at most so many: bool, as values (R, U)."""
    places = values.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(values, dtype=torch.bool).scatter_(1, places, True)


def shared_out(count: int, weights: list[float], rooms: list[int], most: Fraction = ROOM) -> list[int]:
    """Whole numbers that sum to ``count``, in proportion to weights and within a share of each room.

    What finds no place is spread over the others again; where even that has none, up to the whole rooms.

    >>> shared_out(10, [3.0, 1.0, 1.0], [100, 100, 100])
    [6, 2, 2]
    >>> shared_out(10, [3.0, 1.0, 0.0], [4, 100, 100], Fraction(1))
    [4, 6, 0]
    """
    found = [0] * len(rooms)
    limits = [floor(most * room) for room in rooms]
    for limit in (limits, rooms):
        while left := count - sum(found):
            open_ = [index for index, room in enumerate(limit) if found[index] < room]
            if not open_:
                break
            shares = [weights[index] for index in open_]
            total = sum(shares)
            shares = [share / total for share in shares] if total > 0 else [1 / len(open_)] * len(open_)
            # The largest share takes at least one, so that every turn ends nearer.
            for index, share in sorted(zip(open_, shares, strict=True), key=lambda pair: -pair[1]):
                given = min(ceil(share * left), limit[index] - found[index], count - sum(found))
                found[index] += given
    return found

"""Which hidden units of a network may change places, and the proof that its function stays the same when they do."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.weightspace.groups import Group, Orders, grouped, moved
from mcr.weightspace.states import load_state
from mcr.weightspace.symmetry import Symmetry, refusal

Choose = Callable[[Sequence[Group]], Sequence[Orders]]
"""Groups to the new order of their members, for each of the networks that are moved."""


class Movable:
    """The hidden units of networks of one architecture.

    Args:
        network: Stays as it is.
        image_shape: (D, H, W) of the images that it takes.

    Attributes:
        symmetry: What a forward pass has told of its units.

    Raises:
        InputError: In one line, where the way of an image through the network depends on its values.
    """

    @torch.no_grad()
    def __init__(self, network: nn.Module, image_shape: tuple[int, int, int]) -> None:
        self.twin = copy.deepcopy(network).cpu().eval()
        self.dtype = next((parameter.dtype for parameter in self.twin.parameters()), torch.float32)
        draw = generator(0, "permutation", "check")
        self.images = torch.rand(2, *image_shape, dtype=self.dtype, generator=draw)
        try:
            self.symmetry = Symmetry(self.twin)
            self.symmetry.run(torch.zeros_like(self.images))
        except InputError:
            raise
        except Exception as error:  # any code of the user's network may fail in any way when it is traced
            raise refusal(f"its forward pass fails while it is looked at: {error or type(error).__name__}") from error

    @property
    def held(self) -> list[str]:
        """Names of the functions that keep units in their order."""
        return list(self.symmetry.held)

    @torch.no_grad()
    def settle(self, states: Sequence[Mapping[str, Tensor]], choose: Choose) -> tuple[list[Group], list[Orders]]:
        """The groups, and an order of each for every network that leaves its logits as they are.

        Args:
            states: State dicts of the networks, on the CPU.
            choose: Asked again, with smaller groups, where the logits change.

        Raises:
            InputError: Where the logits change all the same, or no units may change places.
        """
        known = self.symmetry.known
        # Slices may go on in different ways: then units change places inside of them only.
        for apart in ([], known.parts) if known.parts else ([],):
            groups = grouped(known, apart)
            if not groups:
                kept = f" ({', '.join(self.held)} keep them in their order)" if self.held else ""
                raise refusal(f"it has no two hidden units that could change places{kept}")
            orders = list(choose(groups))
            gaps = [self._gap(state, groups, order) for state, order in zip(states, orders, strict=True)]
            # Beyond rounding, which the order of summation changes; a NaN is no proof of sameness either.
            wrong = [gap for gap in gaps if not gap <= torch.finfo(self.dtype).eps ** 0.5]
            if not wrong:
                return groups, orders
        raise refusal(f"with its units permuted it gives other logits, by {wrong[0]:.1e} of their norm")

    def _gap(self, state: Mapping[str, Tensor], groups: Sequence[Group], orders: Orders) -> float:
        """By how much of their norm the logits differ once the units have moved.

        Hooks, random draws, compiled parts or operations in place may have misled the pass that finds the units.
        """
        load_state(self.twin, state)
        _enliven(self.twin)
        lively = {name: tensor.clone() for name, tensor in self.twin.state_dict().items()}
        before = self.twin(self.images)
        load_state(self.twin, moved(lively, groups, orders))
        after = self.twin(self.images)
        return 0.0 if torch.equal(after, before) else ((after - before).norm() / before.norm()).item()


def _enliven(network: nn.Module) -> None:
    """Numbers in place of zeros: a head or a branch that begins with zeros would hide what stands before it."""
    draw = generator(0, "permutation", "zeros")
    for parameter in network.parameters():
        if not parameter.any():
            noise = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
            parameter.copy_(0.1 * noise)

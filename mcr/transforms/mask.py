"""The weights that sparse networks have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from mcr.errors import InputError
from mcr.weightspace.layout import Layout
from mcr.weightspace.transform import Transform


@dataclass(frozen=True)
class Mask(Transform):
    """Every network of a subspace is as sparse as those that it joins: elsewhere its weights are zero.

    Weights are the parameters with at least two dimensions: biases and the parameters of normalisations stay.

    Attributes:
        support: Which weights stay: "union", where one of the networks has one that is not zero, or "shared", where
            all have: then the networks themselves lose the others.

    Raises:
        InputError: For another support; where it is asked of no subspace.
    """

    support: Literal["union", "shared"]

    def __post_init__(self) -> None:
        if self.support not in ("union", "shared"):
            raise InputError(f"transform=mask: support={self.support} must be union or shared")

    def joining(self, ends: Sequence[Tensor], layout: Layout) -> Transform:
        """The mask of these networks, each (P,)."""
        kept = ends[0] != 0
        for end in ends[1:]:
            kept = kept | (end != 0) if self.support == "union" else kept & (end != 0)
        for view in layout.views(kept).values():
            if view.dim() < 2:
                view.fill_(True)
        return Kept(~kept)

    def apply_(self, theta: Tensor, layout: Layout) -> None:
        """Refused: of one network there is nothing to mask."""
        raise InputError("transform=mask is of a subspace through several networks; of one there is nothing to mask")

    def pull_(self, gradient: Tensor, layout: Layout) -> None:
        """Refused, as ``apply_``."""
        self.apply_(gradient, layout)


@dataclass(frozen=True, eq=False)
class Kept(Transform):
    """Some weights are zero.

    Attributes:
        gone: Which (P,).
    """

    gone: Tensor

    def apply_(self, theta: Tensor, layout: Layout) -> None:
        """Set them to zero in theta (P,).

        >>> import torch
        >>> theta = torch.tensor([1.0, 2.0])
        >>> Kept(torch.tensor([True, False])).apply_(theta, Layout(("weight",), ((2, 1),), False))
        >>> theta.tolist()
        [0.0, 2.0]
        """
        theta.masked_fill_(self.gone.to(theta.device), 0)

    def pull_(self, gradient: Tensor, layout: Layout) -> None:
        """The transpose of that: they have no gradient (P,)."""
        gradient.masked_fill_(self.gone.to(gradient.device), 0)

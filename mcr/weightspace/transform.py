"""What every transform of theta is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from mcr.weightspace.layout import Layout


class Transform(ABC):
    """A map T of weight space to itself that is applied to every blend of control points, the ends included.

    It depends on its arguments alone, so that T(theta) is the same network wherever it is made, and applying it twice
    is applying it once.
    """

    @abstractmethod
    def apply_(self, theta: Tensor, layout: Layout) -> None:
        """Change theta (P,) into T(theta) in place."""

    @abstractmethod
    def pull_(self, gradient: Tensor, layout: Layout) -> None:
        """Change the gradient (P,) in the transformed weights into that in theta, in place.

        Either the transpose of T's derivative or what stands for it (straight through): each transform says which. Of
        several transforms the last applied is pulled first.
        """

    def at(self, progress: float) -> Transform:
        """What is done in its place at a point of training, from 0 to 1: there a transform may begin mildly."""
        return self

    def joining(self, ends: Sequence[Tensor], layout: Layout) -> Transform:
        """The transform of a subspace through these networks, each (P,)."""
        return self

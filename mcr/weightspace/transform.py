"""What every transform of theta is."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from mcr.weightspace.layout import Layout


class Transform(Protocol):
    """A map T of weight space to itself that is applied to every blend of control points, the ends included.

    It depends on its arguments alone, so that T(theta) is the same network wherever it is made, and applying it twice
    is applying it once.
    """

    def apply_(self, theta: Tensor, layout: Layout) -> None:
        """Change theta (P,) into T(theta) in place."""

    def pull_(self, gradient: Tensor, layout: Layout) -> None:
        """Change the gradient (P,) in the transformed weights into that in theta, in place.

        Either the transpose of T's derivative or what stands for it (straight through): each transform says which. Of
        several transforms the last applied is pulled first.
        """

"""A network with one implicit layer that has a unique solution whatever its weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mcr.bounds.box import Box
from mcr.errors import InputError


class Nemon(nn.Module):
    """An implicit layer on the flattened image, then a linear one (Jafarpour et al. 2021, 2022, NEMON).

    Args:
        units: Of the implicit layer; see ``Implicit``, as for the next three.
        num_classes: C.
        in_channels: D.
        image_size: H and W.
    """

    def __init__(
        self,
        units: int,
        measure: float,
        tolerance: float,
        iterations: int,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
    ) -> None:
        super().__init__()
        pixels = in_channels * image_size[0] * image_size[1]
        self.layers = nn.Sequential(
            nn.Flatten(), Implicit(pixels, units, measure, tolerance, iterations), nn.Linear(units, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, D, H, W) to logits (B, C)."""
        logits: Tensor = self.layers(images)
        return logits


class Implicit(nn.Module):
    """The z with z = relu(A z + U x + b).

    A = m I + E^-1 M E - diag(|M| 1) - diag(a^2) with E = diag(exp(e)): in the maximum norm with weights E the matrix
    measure of A is at most m for every M, e and a. With m < 1 the solution is unique, so any blend of the weights of
    two such layers is one again, without a projection.

    Args:
        inputs: Entries of x.
        units: n, entries of z.
        measure: m, below 1.
        tolerance: Of the solution: its residual in that norm, relative to 1 + |z|.
        iterations: In which it has to be found.

    Raises:
        InputError: For a measure that promises no solution.
    """

    def __init__(self, inputs: int, units: int, measure: float, tolerance: float, iterations: int) -> None:
        super().__init__()
        if not measure < 1 or not tolerance > 0 or iterations < 1:
            raise InputError(
                f"architecture=nemon: measure={measure} < 1, tolerance={tolerance} > 0, iterations={iterations} >= 1"
            )
        self.measure, self.tolerance, self.iterations = measure, tolerance, iterations
        self.mixing = nn.Parameter(torch.empty(units, units).uniform_(-1, 1) / units)
        self.scale = nn.Parameter(torch.zeros(units))
        self.damping = nn.Parameter(torch.zeros(units))
        self.drive = nn.Linear(inputs, units)

    def matrix(self) -> Tensor:
        """A (n, n)."""
        weights = self.scale.exp()
        diagonal = self.measure - self.mixing.abs().sum(1) - self.damping.square()
        return self.mixing * weights / weights[:, None] + torch.diag(diagonal)

    def forward(self, images: Tensor) -> Tensor:
        """(B, inputs) to z (B, n). Raises InputError where no solution is found in time."""
        return self._solved(self.matrix(), self.drive(images), self.scale)[0]

    def enclose(self, box: Box) -> Box:
        """Bounds (B, n) on z where x lies in a box: the solution of a layer of twice the size, which is mixed monotone.

        Off its diagonal A is split into what raises and what lowers z. The bounds are widened by how far from the exact
        solution the one that was found may lie. Raises InputError where none is found in time.
        """
        matrix = self.matrix()
        diagonal = torch.diag(matrix.diagonal())
        raising = (matrix - diagonal).clamp_min(0) + diagonal
        lowering = (matrix - diagonal).clamp_max(0)
        doubled = torch.cat([torch.cat([raising, lowering], 1), torch.cat([lowering, raising], 1)])
        centre, radius = self.drive(box.centre), box.radius @ self.drive.weight.abs().T
        found, error = self._solved(doubled, torch.cat([centre - radius, centre + radius], 1), self.scale.repeat(2))
        lower, upper = found.chunk(2, 1)
        below, above = error.chunk(2, 1)
        return Box(lower - below, upper + above)

    def _solved(self, matrix: Tensor, drive: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """The solution (B, n), and how far each entry may lie from the exact one: residual / (1 - m), in that norm."""
        solution: Tensor = Solution.apply(matrix, drive, scale, self.tolerance, self.iterations)
        with torch.no_grad():
            weights = scale.exp()
            left = residual(matrix, drive, solution).mul(weights).abs().amax(1, keepdim=True)
            if bool((left > self.tolerance * size(solution, weights)).any()):
                raise InputError(
                    f"architecture=nemon: no solution in {self.iterations} iterations; raise architecture.iterations "
                    "or lower the learning rate"
                )
            return solution, left / (1 - self.measure) / weights


def residual(matrix: Tensor, drive: Tensor, found: Tensor) -> Tensor:
    """relu(K z + d) - z (B, n)."""
    return (found @ matrix.T + drive).relu_() - found


def size(found: Tensor, weights: Tensor) -> Tensor:
    """1 + |z| in the maximum norm with weights (B, 1)."""
    return 1 + (found * weights).abs().amax(1, keepdim=True)


class Solution(torch.autograd.Function):
    """The z with z = relu(K z + d) by averaged iterations; its gradient by the implicit function theorem."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, drive: Tensor, scale: Tensor, tolerance: float, iterations: int) -> Tensor:
        """Matrix K (n, n), drive d (B, n) and logarithms of the norm's weights (n,) to z (B, n)."""
        # The largest step that is known to contract (Jafarpour et al. 2021).
        step = 1 / (1 - min(0.0, float(matrix.diagonal().min())))
        weights, found = scale.exp(), torch.zeros_like(drive)
        for _ in range(iterations):
            change = residual(matrix, drive, found)
            if bool(((change * weights).abs() <= tolerance * size(found, weights)).all()):
                break
            found = found + step * change
        ctx.save_for_backward(matrix, drive, found)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        """With D the slopes at the solution: (I - K^T D) w = g, then D w for d, and its products with z for K."""
        matrix, drive, found = ctx.saved_tensors
        slopes = (found @ matrix.T + drive > 0).to(drive.dtype)
        system = torch.eye(len(matrix), dtype=drive.dtype, device=drive.device) - matrix.T * slopes[:, None]
        moved = torch.linalg.solve(system, gradients[0]) * slopes
        return moved.T @ found, moved, None, None, None

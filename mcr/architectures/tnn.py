"""Networks of tensors: layers that multiply matrices of pixels, column by column of a cosine transform."""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mcr.bounds.box import Box
from mcr.errors import InputError

FORMS = ("plain", "leapfrog")


class Tnn(nn.Module):
    """A t-NN (Newman, Horesh, Avron and Kilmer 2018, 2024): an image (B, D, H, W) is a matrix (D H, 1, W) of tubes.

    An opening layer tanh(W * x + b) lifts the D H rows to units, hidden ones follow, and a linear layer on all entries.
    The product * is that of ``product`` with the orthonormal cosine transform along the columns.

    Args:
        form: Of the hidden layers: "plain" is tanh(W * y + b), "leapfrog" see ``Leapfrog``.
        units: Rows of a hidden state.
        depth: Hidden layers behind the opening one.
        step: h of the leapfrog form, above 0; the plain one takes no steps.
        num_classes: C.
        in_channels: D.
        image_size: H and W.

    Raises:
        InputError: For another form, or a number out of its range.
    """

    def __init__(
        self,
        form: str,
        units: int,
        depth: int,
        step: float,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise InputError(f"architecture.form={form} must be {' or '.join(FORMS)}")
        if units < 1 or depth < 1 or not 0 < step < float("inf"):
            raise InputError(f"architecture=tnn: units={units} >= 1, depth={depth} >= 1 and step={step} > 0 needed")
        matrix = cosines(image_size[1])
        plain = [layer for _ in range(depth) for layer in (TLinear(units, units, matrix), nn.Tanh())]
        self.layers = nn.Sequential(
            nn.Flatten(1, 2),
            TLinear(in_channels * image_size[0], units, matrix),
            nn.Tanh(),
            *(plain if form == "plain" else [Leapfrog(units, depth, step, matrix)]),
            nn.Flatten(),
            nn.Linear(units * image_size[1], num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, D, H, W) to logits (B, C)."""
        logits: Tensor = self.layers(images)
        return logits


class TLinear(nn.Module):
    """W * x + b. What is trained are the faces of W behind the transform, each drawn as torch draws a linear layer.

    They are W in other orthonormal coordinates: gradient descent, weight decay and straight lines are the same in both,
    the steps of Adam are not.

    Args:
        inputs: p, rows of x.
        units: l, rows of the outcome.
        matrix: M (n, n), orthonormal.
    """

    matrix: Tensor

    def __init__(self, inputs: int, units: int, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix, persistent=False)
        size = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(len(matrix), units, inputs).uniform_(-size, size))
        self.bias = nn.Parameter(torch.empty(units, len(matrix)).uniform_(-size, size))

    def forward(self, values: Tensor) -> Tensor:
        """(B, p, n) to (B, l, n)."""
        return product(self.weight, values, self.matrix) + self.bias

    def enclose(self, box: Box) -> Box:
        """Bounds where each entry of x lies in a box."""
        return ball(self(box.centre), reach(self.weight, box.radius, self.matrix))


class Coupling(TLinear):
    """The W (l, l, n) of a leapfrog step, with one tube b (n,) for all units."""

    def __init__(self, units: int, matrix: Tensor) -> None:
        super().__init__(units, units, matrix)
        self.bias = nn.Parameter(self.bias[0].detach().clone())

    def back(self, values: Tensor) -> Tensor:
        """W^T * y + b (B, l, n)."""
        return transposed_product(self.weight, values, self.matrix) + self.bias

    def enclose_back(self, box: Box) -> Box:
        """Bounds on it."""
        return ball(self.back(box.centre), reach(self.weight.mT, box.radius, self.matrix))


class Leapfrog(nn.Module):
    """Steps z <- z - h tanh(W^T * y + b), y <- y + h tanh(W * z + b) from z = 0, each with W and b of its own.

    A Hamiltonian system, which neither damps nor blows up what passes through it: each half step shears, so that it
    preserves volumes and can be undone. b is one tube (n,) for all units.

    Args:
        units: Rows of y and of z.
        depth: Steps.
        step: h.
        matrix: M (n, n), orthonormal.
    """

    steps: Any  # a ModuleList of Coupling, of which torch's types know modules only

    def __init__(self, units: int, depth: int, step: float, matrix: Tensor) -> None:
        super().__init__()
        self.step = step
        self.steps = nn.ModuleList(Coupling(units, matrix) for _ in range(depth))

    def forward(self, values: Tensor) -> Tensor:
        """y (B, l, n) to y (B, l, n)."""
        return self.run(values, values.new_zeros(()))[0]

    def run(self, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Both halves of the state after all steps."""
        for coupling in self.steps:
            z = z - self.step * torch.tanh(coupling.back(y))
            y = y + self.step * torch.tanh(coupling(z))
        return y, z

    def enclose(self, box: Box) -> Box:
        """Bounds where each entry of y lies in a box."""
        y, z = box, Box(torch.zeros_like(box.lower), torch.zeros_like(box.lower))
        for coupling in self.steps:
            z = self._moved(z, -self.step, coupling.enclose_back(y))
            y = self._moved(y, self.step, coupling.enclose(z))
        return y

    @staticmethod
    def _moved(state: Box, step: float, push: Box) -> Box:
        by = Box(torch.tanh(push.lower), torch.tanh(push.upper)).scaled(step)
        return Box(state.lower + by.lower, state.upper + by.upper)


def cosines(size: int) -> Tensor:
    """The orthonormal discrete cosine transform (n, n): its row k is sqrt((2 - [k = 0]) / n) cos(pi k (2 j + 1) / 2 n).

    >>> torch.allclose(cosines(5) @ cosines(5).T, torch.eye(5), atol=1e-6)
    True
    """
    rows, columns = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)
    found = sqrt(2 / size) * torch.cos(pi * rows * (2 * columns + 1) / (2 * size))
    found[0] /= sqrt(2)
    return found.to(torch.get_default_dtype())


def product(faces: Tensor, values: Tensor, matrix: Tensor) -> Tensor:
    """W * X for each image: X is transformed by M along its tubes, multiplied face by face, transformed back.

    Args:
        faces: Of W behind the transform (n, l, p).
        values: X (B, p, n).
        matrix: M (n, n), unitary.

    Returns:
        (B, l, n).
    """
    transformed = functional.linear(values, matrix).permute(2, 1, 0)
    return functional.linear((faces @ transformed).permute(2, 1, 0), matrix.mH)


def transposed_product(faces: Tensor, values: Tensor, matrix: Tensor) -> Tensor:
    """W^T * Y for each image, as ``product`` for real numbers: Y (B, l, n) to (B, p, n)."""
    transformed = functional.linear(values, matrix).permute(2, 0, 1)
    return functional.linear((transformed @ faces).permute(1, 2, 0), matrix.mH)


def reach(faces: Tensor, radius: Tensor, matrix: Tensor) -> Tensor:
    """How far each entry (B, l, n) of W * r can lie from 0 where those of r are within a radius (B, p, n)."""
    entries = torch.einsum("jn,jlp,jk->lnpk", matrix, faces, matrix).abs()
    return torch.einsum("lnpk,bpk->bln", entries, radius)


def ball(centre: Tensor, radius: Tensor) -> Box:
    """All values within a radius."""
    return Box(centre - radius, centre + radius)

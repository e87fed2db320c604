"""Penalties on where control points lie."""

from __future__ import annotations

from math import factorial

import pytest
import torch
from torch import Tensor, nn

from mcr.curves.free_simplex import FreeSimplex
from mcr.curves.simplex import Simplex
from mcr.errors import InputError
from mcr.penalties.cosine import Cosine
from mcr.penalties.penalty import Penalty, pull
from mcr.penalties.volume import Volume, volume
from mcr.weightspace.layout import Layout
from tests.gradients import gradients, subspace_module

PENALTIES: list[Penalty] = [Volume(weight=0.7, floor=1e-4), Cosine(weight=1.3)]
each = pytest.mark.parametrize("penalty", PENALTIES, ids=["volume", "cosine"])


def points(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def cayley_menger(rows: Tensor) -> float:
    """Volume of a simplex by the determinant of squared distances: what Benton et al. (2021) compute."""
    m = len(rows) - 1
    bordered = torch.ones(m + 2, m + 2, dtype=torch.float64)
    bordered[0, 0] = 0
    bordered[1:, 1:] = torch.cdist(rows, rows).square()
    squared = (-1) ** (m + 1) / (2**m * factorial(m) ** 2) * torch.linalg.det(bordered)
    return float(squared) ** 0.5


@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_the_volume_is_that_of_cayley_and_menger(count: int) -> None:
    rows = points(count, 9)
    assert float(volume(rows @ rows.T)) == pytest.approx(cayley_menger(rows), rel=1e-9)


@each
def test_the_pull_is_the_gradient_of_each_point(penalty: Penalty) -> None:
    rows = points(4, 30).requires_grad_(True)
    (expected,) = torch.autograd.grad(penalty(rows @ rows.T), rows)
    found = pull(penalty, (rows @ rows.T).detach()) @ rows.detach()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_a_flat_simplex_has_no_volume_and_is_not_pulled() -> None:
    rows = points(2, 9)
    flat = torch.cat([rows, rows.mean(0, keepdim=True)])
    gram = flat @ flat.T
    assert float(volume(gram)) < 1e-6
    assert torch.isfinite(pull(PENALTIES[0], gram)).all()


def test_points_of_one_direction_cost_most() -> None:
    one = points(1, 9)
    assert float(Cosine(2.0)(torch.cat([one, 3 * one]) @ torch.cat([one, 3 * one]).T)) == pytest.approx(2.0)
    assert float(Cosine(2.0)(torch.eye(3, dtype=torch.float64))) == 0.0


@each
@pytest.mark.parametrize("kind", ["inner", "all"])
def test_a_step_moves_free_points_by_the_loss_and_the_penalty(penalty: Penalty, kind: str) -> None:
    """What training gives its optimizer, with the penalty less without it, is the penalty's gradient."""
    torch.manual_seed(0)
    network = nn.Linear(3, 4).double()
    layout = Layout.of(network, "contiguous")
    ends = [points(layout.size, seed=seed) for seed in (1, 2)]
    curve = FreeSimplex(2, 2) if kind == "inner" else Simplex(2)

    def stepped(**changes: object) -> tuple[Tensor, Tensor]:
        module = subspace_module(curve, ends, layout=layout, network=network, num_classes=4, free=kind, **changes)
        if kind == "inner":  # away from the plane of the ends
            for block in module.control:
                block.data += points(*block.shape, seed=3)
        module.on_train_start()
        module._place(torch.full((curve.dim,), 0.2, dtype=torch.float64), module.control, 1.0)
        network(torch.ones(2, 3, dtype=torch.float64)).sum().backward()
        return gradients(module), torch.stack(module.points())

    with_it, rows = stepped(penalty=penalty)
    without, same = stepped()
    assert torch.equal(rows, same)
    rows.requires_grad_(True)
    (expected,) = torch.autograd.grad(penalty(rows @ rows.T), rows)
    torch.testing.assert_close(with_it - without, expected[-2:], rtol=1e-6, atol=1e-9)
    assert float(expected[-2:].norm()) > 1e-3


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="weight=-1"):
        Cosine(-1)
    for wrong in ({"weight": -1, "floor": 1e-4}, {"weight": 1, "floor": 0}):
        with pytest.raises(InputError, match="penalty=volume"):
            Volume(**wrong)

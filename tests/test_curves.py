"""Laws of curves, against slow definitions in float64."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcr.curves.bezier import Bezier
from mcr.curves.linear import Linear
from mcr.curves.polychain import Polychain
from mcr.errors import InputError

CURVES = [Linear(), Polychain(2), Polychain(3), Polychain(6), Bezier(2), Bezier(3), Bezier(7)]
unit = st.floats(0, 1, allow_nan=False)


def at(curve, t: float, points: torch.Tensor) -> torch.Tensor:
    return curve.coefficients(t) @ points


@pytest.mark.parametrize("curve", CURVES, ids=str)
def test_a_curve_passes_through_its_ends_exactly(curve) -> None:
    points = torch.randn(curve.points, 5, dtype=torch.float64)
    assert torch.equal(at(curve, 0.0, points), points[0])
    assert torch.equal(at(curve, 1.0, points), points[-1])


@pytest.mark.parametrize("curve", CURVES, ids=str)
@given(t=unit)
def test_coefficients_are_a_partition_of_one(curve, t: float) -> None:
    coefficients = curve.coefficients(t)
    assert coefficients.shape == (curve.points,)
    assert (coefficients >= 0).all()
    assert abs(float(coefficients.sum()) - 1) < 1e-12


@given(t=unit)
def test_linear_is_a_chain_without_bends_and_a_bezier_of_degree_one(t: float) -> None:
    expected = Linear().coefficients(t)
    for other in (Polychain(2), Bezier(2)):
        torch.testing.assert_close(other.coefficients(t), expected, rtol=0, atol=1e-15)


@given(t=unit, points=st.integers(2, 9))
def test_bernstein_equals_de_casteljau(t: float, points: int) -> None:
    control = torch.randn(points, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(points))
    rows = list(control)
    while len(rows) > 1:
        rows = [(1 - t) * a + t * b for a, b in pairwise(rows)]
    torch.testing.assert_close(at(Bezier(points), t, control), rows[0], rtol=0, atol=1e-12)


@given(share=unit, segment=st.integers(0, 3))
def test_a_chain_is_straight_between_its_bends(share: float, segment: int) -> None:
    control = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.lerp(control[segment], control[segment + 1], share)
    torch.testing.assert_close(at(Polychain(5), (segment + share) / 4, control), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [Bezier, Polychain])
def test_fewer_points_than_ends_are_refused(kind) -> None:
    with pytest.raises(InputError, match="at least 2"):
        kind(1)

"""Bernstein polynomials."""

from __future__ import annotations

from math import comb


def bernstein(degree: int, t: float) -> list[float]:
    """The degree + 1 polynomials (n over k) (1 - t)^(n - k) t^k of degree n at t (Bernstein 1912); they sum to one.

    >>> bernstein(2, 0.5)
    [0.25, 0.5, 0.25]
    """
    return [comb(degree, k) * (1 - t) ** (degree - k) * t**k for k in range(degree + 1)]

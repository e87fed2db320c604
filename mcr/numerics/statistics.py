"""Errors of means. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def standard_error(differences: Values) -> float:
    """Of the mean of independent values (N,); NaN for a single one."""
    return float(differences.std(ddof=1) / np.sqrt(len(differences))) if len(differences) > 1 else float("nan")


def finite(tree: Any) -> Any:
    """A copy of nested plain values in which a number that is not finite is None: JSON has no other word for it.

    >>> finite({"mean": 0.5, "se": float("nan"), "of": (1, "a")})
    {'mean': 0.5, 'se': None, 'of': [1, 'a']}
    """
    if isinstance(tree, Mapping):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not isfinite(tree) else tree

"""Errors of means. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def standard_error(differences: Values) -> float:
    """Of the mean of independent values (N,); NaN for a single one."""
    return float(differences.std(ddof=1) / np.sqrt(len(differences))) if len(differences) > 1 else float("nan")

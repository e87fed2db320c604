"""Results as JSON: what has no value is null there and NaN here; nothing is infinite."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcr.errors import InputError


def write(path: Path, content: Any) -> None:
    """Plain values as JSON, which has no NaN: the standard error of a single image, say, is null.

    Raises:
        InputError: For an infinite number, naming where it stands.
    """
    path.write_text(json.dumps(_nulls(content, path.name), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read(path: Path) -> Any:
    """What ``write`` wrote, numbers without a value as NaN."""
    return _nans(json.loads(path.read_text(encoding="utf-8")))


def _nulls(tree: Any, place: str) -> Any:
    if isinstance(tree, Mapping):
        return {name: _nulls(value, f"{place} {name}") for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_nulls(value, f"{place} {index}") for index, value in enumerate(tree)]
    if isinstance(tree, float) and not math.isfinite(tree):
        if math.isinf(tree):
            raise InputError(f"{place} is {tree}, no usable result: lower the learning rate, or ask on more images")
        return None
    return tree


def _nans(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _nans(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_nans(value) for value in tree]
    return math.nan if tree is None else tree

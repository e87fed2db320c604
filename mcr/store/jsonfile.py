"""Results as JSON: what has no value is null there and NaN here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write(path: Path, content: Any) -> None:
    """Plain values as JSON, which has a word for finite numbers only: the standard error of a single image is null.

    So is a mean over pairs of networks that is infinite, of which a report says in words that it is not finite. What
    no stage can go on from, such as an infinite loss, is refused where it is measured.
    """
    path.write_text(json.dumps(_nulls(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read(path: Path) -> Any:
    """What ``write`` wrote, numbers without a value as NaN."""
    return _nans(json.loads(path.read_text(encoding="utf-8")))


def _nulls(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {name: _nulls(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_nulls(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _nans(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _nans(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_nans(value) for value in tree]
    return math.nan if tree is None else tree

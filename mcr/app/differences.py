"""How a configuration differs from that of its chosen options: unknown keys and values of the wrong type."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mcr.store import identity

ABSENT = object()
COUNTS = re.compile(
    r"dataset\.split\.(train|validation|clean|test)|evaluation\.\w+_images|probes\.\w+\.images|(repair\.budget|fit)\.images"
)  # may be a share, or all, or given
LISTS = (
    "evaluation.grid",
    "evaluation.group_grid",
    "repair.grid",
    "backdoor.colour",
    "normalization.mean",
    "normalization.std",
    "runtime.devices",
)  # may be one value or several


def changes(before: Any, after: Any, root: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted key, old and new value of every difference; ABSENT for a key that was not there."""
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        if before != after:
            yield where, before, after
        return
    if not before and "_target_" in after:
        return  # another target with arguments of its own, checked when it is built
    if not before and (name := where.rsplit(".", 1)[-1]) in root:
        before = root[name]  # an empty mapping holds what differs from the root's choice of that name
    for key, new in after.items():
        path = f"{where}.{key}" if where else str(key)
        if key in before:
            yield from changes(before[key], new, root, path)
        elif where != "architecture":  # there a user may add arguments, checked against the constructor
            yield path, ABSENT, new


def at(tree: Any, key: str) -> Any:
    """The value at a dotted key; an empty mapping holds what differs from the root's choice of its name."""
    found, before = tree, ""
    for part in key.split("."):
        if isinstance(found, Mapping) and not found:
            found = tree.get(before, found)
        if not isinstance(found, Mapping) or part not in found:
            return ABSENT
        found, before = found[part], part
    return found


def fits(key: str, old: Any, new: Any) -> bool:
    """Whether a value may take the place of another: the YAML's value shows the type."""
    old, new = identity.number(old), identity.number(new)
    if old is None or isinstance(old, str) or (isinstance(new, str) and "${" in new):
        return not isinstance(new, Mapping)
    if isinstance(old, bool) or isinstance(new, bool):
        return isinstance(old, bool) and isinstance(new, bool)
    counts = bool(COUNTS.fullmatch(key))
    if new in ("all", "given"):  # where only one of them is meant, the stage's declaration says so
        return counts
    if isinstance(new, list):
        return isinstance(old, list) or key in LISTS
    if isinstance(old, int | float):
        return isinstance(new, int) or (isinstance(new, float) and (isinstance(old, float) or counts))
    return isinstance(new, type(old))


def kind(value: Any) -> str:
    """What people call the type of a value."""
    value = identity.number(value)
    names = {bool: "true or false", int: "whole number", float: "number", str: "text", list: "list", dict: "mapping"}
    return names.get(type(value), type(value).__name__)


def keys(tree: Any, where: str = "") -> Iterator[str]:
    """All dotted keys of nested mappings."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            path = f"{where}.{key}" if where else str(key)
            yield path
            yield from keys(value, path)

"""How a configuration differs from that of its chosen options: unknown keys and values of the wrong type."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

ABSENT = object()
MOST = 80  # characters of a value in a message
TEXT = "???"  # stands for a value that only the user or the data can give: a path, a digest
PLACES = (1, [0.5, [0.5]])  # a number of them, or a list: of t, or of coordinates
# What may stand where the YAML's value does not show all: "key=that value" to examples, of which text is a pattern.
WIDER: dict[str, tuple[Any, ...]] = {
    r"dataset\.split\.(validation|test)=.*": (0.5, "all", "given"),
    r"dataset\.split\.(train|clean)=.*": (0.5, "all"),
    r"dataset\.classes=auto": ("auto", [r"(?s).+", 0.5, None, {}]),
    r"(evaluation\.\w+_images|(probes\.\w+|repair\.budget|fit|endpoints\..+\.trusted)\.images)=.*": (0.5, "all"),
    r"(evaluation\.(group_)?grid|repair\.grid)=.*": PLACES,
    r"(references\.[^.]+\.)?curve\.points=.*": (1, [1]),
    r"probes\.\w+\.at=.*": (*PLACES, r"worst \S+"),
    r"probes\.\w+\.along=.*": (r"\w+", [r"\w+"]),
    r"(.*\.)?sources=.*": ("all", [0]),
    r"(.*\.)?target=(\d+|next)": (1, "next"),
    r"(.*\.)?target=other": (1, "next", "other"),
    r"(.*\.)?colour=.*|normalization\.(mean|std)=.*": (0.5, [0.5]),
    r"dataset\.image_size=native": (32, "native"),
    r"runtime\.devices=.*": (1, [0]),
    r"claims=.*": ([{}],),
    r"logger\.artifacts=.*": (["ends|path"],),
    r"plugins=.*": ([r"\w+(\.\w+)*"],),
    r"report\.(rows|columns)=.*": ([r"\S+"],),
}


def changes(before: Any, after: Any, root: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted key, old and new value of every difference; ABSENT for a key that was not there."""
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        if before != after or type(before) is not type(after):
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


def unheard(config: Mapping[str, Any], key: str) -> str | None:
    """What to say of a radius or norm that is given to another attack than the run's: that stays in the run's ball."""
    where, _, name = key.rpartition(".")
    nested = where.endswith(".attack") or where.rpartition(".")[0].endswith(".attacks")
    if name not in ("eps", "norm") or not nested or "_target_" not in at(config, where):
        return None
    value, own = at(config, key), config["attack"].get(name)
    if own is None or value == own:
        return None
    return f"{key}={value}: nothing reads it, another attack stays in the run's ball; attack.{name}={own} is for all"


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
    """Whether a value may take the place of another, both resolved: the YAML's value shows the type."""
    if old is None:
        return isinstance(new, str)  # what the YAML leaves out is a name
    return any(_like(example, new) for example in _examples(key, old))


def _examples(key: str, old: Any) -> tuple[Any, ...]:
    """What may stand at a key; text is a pattern."""
    wider = (found for pattern, found in WIDER.items() if re.fullmatch(pattern, f"{key}={old}", re.DOTALL))
    return next(wider, (_example(old),))


def _example(old: Any) -> Any:
    """Text may be any, but not empty where the YAML's is not."""
    if isinstance(old, list):
        return [_example(one) for one in old]
    return (r"(?s).+" if old else r"(?s).*") if isinstance(old, str) else old


def _like(example: Any, value: Any) -> bool:
    if isinstance(example, bool) or isinstance(value, bool):
        return isinstance(example, bool) and isinstance(value, bool)
    if example is None:
        return value is None
    if isinstance(example, str):
        return isinstance(value, str) and re.fullmatch(example, value) is not None
    if isinstance(example, int):
        return isinstance(value, int)
    if isinstance(example, float):
        return isinstance(value, int | float) and math.isfinite(value)
    if isinstance(example, list):
        return isinstance(value, list) and all(any(_like(one, part) for one in example) for part in value)
    return isinstance(value, Mapping)


def refusal(key: str, old: Any, new: Any) -> str:
    """The line for a value that does not fit."""
    words = (one if isinstance(one, str) and one.isalpha() else kind(one) for one in _examples(key, old))
    kinds = " or ".join(dict.fromkeys(words))
    has = "" if old == TEXT else f": the configuration has {key}={said(old)}"
    return f"{key}={said(new)} is no {kinds}{has}"


def kind(value: Any) -> str:
    """What people call the type of a value."""
    names = {bool: "true or false", int: "whole number", float: "number", str: "text", list: "list", dict: "mapping"}
    if isinstance(value, list) and value and not isinstance(value[0], Mapping):
        return "list of numbers" if isinstance(value[0], int | float) else "list of words"
    return names.get(type(value), "name")


def said(value: Any) -> str:
    """A value as the command line has it, cut where it is long."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= MOST else f"{text[:MOST]}..."


def keys(tree: Any, where: str = "") -> Iterator[str]:
    """All dotted keys of nested mappings."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            path = f"{where}.{key}" if where else str(key)
            yield path
            yield from keys(value, path)

"""Which words pass the facts of the data on to a constructor that does not say so: found by trying."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

from mcr.stages.artifacts import DataSpec
from mcr.store import build

# What people call the number of channels, the side of an image and the number of classes.
WORDS = {
    "channels": ("in_chans", "in_channels", "channels", "n_channels", "num_channels", "input_channels"),
    "size": ("img_size", "image_size", "input_size", "resolution", "in_size"),
    "classes": ("num_classes", "n_classes", "classes", "num_labels", "nclass", "num_class"),
}
# Of a constructor's own arguments those that may be one.
PARTS = {"channels": ("chan", "in_planes"), "size": ("image", "img", "resol", "side"), "classes": ("class", "label")}
MOST = 3  # words of one kind that are tried together with those of the others


def facts(spec: DataSpec) -> dict[str, Any]:
    """What a constructor is told that asks for it by name."""
    return {
        "num_classes": len(spec.classes),
        "in_channels": spec.channels,
        "in_chans": spec.channels,
        "image_size": spec.image_size,
        "img_size": spec.image_size,
    }


def words(architecture: Mapping[str, Any], spec: DataSpec, made: Callable[[Mapping[str, Any]], Any]) -> str:
    """The words of a command line with which a network fits the data that does not without; "" where none help.

    Args:
        architecture: ``_target_`` and the user's arguments.
        spec: The data's facts.
        made: Builds a network and refuses one that does not fit.
    """
    height, width = spec.image_size
    values: dict[str, Any] = {
        "channels": spec.channels,
        "size": height if height == width else [height, width],
        "classes": len(spec.classes),
    }

    choices = [
        [{}, *({word: value} for word in _possible(architecture, spec, kind, value)[:MOST])]
        for kind, value in values.items()
    ]
    together = [{name: value for one in several for name, value in one.items()} for several in product(*choices)]
    for found in sorted(filter(None, together), key=len):
        if _works(made, {**architecture, **found}):
            return " ".join(f"+architecture.{name}={value}".replace(" ", "") for name, value in found.items())
    return ""


def _possible(architecture: Mapping[str, Any], spec: DataSpec, kind: str, value: Any) -> list[str]:
    """The words for one fact that a constructor may take, and is not told already."""
    taken = build.parameters(architecture["_target_"])
    named = [name for name in taken if name in WORDS[kind] or any(part in name for part in PARTS[kind])]
    told = build.told(architecture, facts(spec))
    found = [name for name in named if told.get(name) != value]
    if build.open_ended(taken):  # what takes any keyword may refuse it further down
        others = [word for word in WORDS[kind] if word not in taken and told.get(word) != value]
        found += [word for word in others if _works(build.network, {**architecture, word: value}, facts(spec))]
    return found


def _works(attempt: Callable[..., Any], *arguments: Any) -> bool:
    try:
        attempt(*arguments)
    except Exception:  # a constructor may fail in any way for a word that it does not know
        return False
    return True

"""What is chosen at the root is built before anything is written, whoever reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mcr.store import build
from mcr.store.stage import Stage

GROUPS = ("attack", "backdoor", "injection", "penalty", "selection", "transform")


def check(cfg: Mapping[str, Any], found: Sequence[Stage]) -> None:
    """Build what is chosen at the root, also where no stage of this run has it.

    What a stage in the store has was built for it: a command of which all is found needs no torch for that.

    Args:
        cfg: The whole configuration, with the digests of plugins.
        found: The stages of this run that are in the store.

    Raises:
        InputError: For the first that cannot be built.
    """
    for group in GROUPS:
        chosen = {name: value for name, value in (cfg[group] or {}).items() if name != "numbers"}
        if chosen and not any(_holds(stage.config, chosen) for stage in found):
            build.build(chosen)


def _holds(tree: Any, part: Mapping[str, Any]) -> bool:
    if isinstance(tree, Mapping):
        return tree == part or any(_holds(value, part) for value in tree.values())
    return isinstance(tree, list | tuple) and any(_holds(value, part) for value in tree)

"""What of a command goes to a logger: what was asked, and nothing of the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mcr.app.titles import ends
from mcr.store import identity

ASIDE = ("paths", "logger", "runtime", "report", "hydra")  # parts that cannot change a number
NOTHING = "None"  # Hydra's word for a group of which nothing is chosen
NAMED = ("dataset", "architecture", "curve", "attack", "objective", "optimizer", "backdoor", "repair", "experiment")


def asked(cfg: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """The settings of a run, for a dashboard to group by: names of what was chosen, then the whole configuration.

    Args:
        cfg: The resolved configuration, with its choices.
        words: The overrides of its command line.
    """
    return {
        **_chosen(cfg, (*NAMED, "ends")),
        "replicate": cfg["replicate"],
        "verb": cfg["verb"],
        "command": command(cfg["verb"], words),
        "settings": {key: _without_places(value, key) for key, value in cfg.items() if key not in ASIDE},
    }


def command(verb: str, words: Sequence[str]) -> str:
    """A command line without the paths in it."""
    kept = [word for word in words if not _names_a_place(word)]
    return " ".join(["mcr", verb, *kept])


def tags(cfg: Mapping[str, Any]) -> tuple[str, ...]:
    """Words to filter runs by."""
    return (*_chosen(cfg, ("dataset", "architecture", "ends", "curve", "experiment")).values(), cfg["verb"])


def _chosen(cfg: Mapping[str, Any], groups: Sequence[str]) -> dict[str, str]:
    """The option of each of these groups that has one; ends without a name are told by what they are."""
    choices = {"ends": ends(cfg)} | {group: option for group, option in cfg["choices"].items() if option != NOTHING}
    return {group: choices[group] for group in groups if group in choices}


def _names_a_place(word: str) -> bool:
    key = word.partition("=")[0].lstrip("+~")
    return identity.is_place(key) or key.split(".")[0] in ("paths", "logger", "hydra", "verb")


def _without_places(tree: Any, where: str) -> Any:
    if isinstance(tree, Mapping):
        kept = {key: value for key, value in tree.items() if not identity.is_place(f"{where}.{key}")}
        return {key: _without_places(value, f"{where}.{key}") for key, value in kept.items()}
    return tree

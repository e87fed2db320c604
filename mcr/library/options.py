"""Options of the configuration as objects: a library has the defaults of the command line, and no others."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mcr.app import overrides, shorthands
from mcr.app.composition import conf_folder
from mcr.errors import InputError
from mcr.plans import measures, recipes
from mcr.store.build import build_tree, check_arguments, nearest

# Groups whose options are objects, to the keys of an option that only a plan reads.
GROUPS: dict[str, tuple[str, ...]] = {
    "attack": (),
    "backdoor": (),
    "curve": ("joins", "fits"),
    "objective": (),
    "optimizer": (),
    "probe": measures.ASKED,
    "sampling": (),
    "schedule": (),
    "selection": (),
    "transform": (),
}


def option(group: str, name: str, **values: Any) -> Any:
    """The object that ``group=name`` stands for on the command line.

    What is not given is as in the YAML file of the option (``mcr list GROUP``), so that YAML stays the only place of
    defaults.

    Args:
        group: Such as "attack", "curve", "probe", "objective", "optimizer", "sampling", "schedule", "transform".
        name: Of the option.
        **values: Arguments that differ: numbers, or objects such as the ``attack`` of a probe.

    Raises:
        InputError: For an unknown group, option or argument, naming the nearest.

    >>> option("curve", "bezier", points=4).points
    4
    """
    if group not in GROUPS:
        raise InputError(f"there is no group {group} of objects; {nearest(group, list(GROUPS))}")
    if group == "probe":
        whole = composed(f"+probe@probes.asked={name}")
        config = whole["probes"]["asked"]
        if "attacks" in config:
            config["attacks"] = {key: measures.stronger(whole["attack"], one) for key, one in config["attacks"].items()}
    else:
        whole = composed(f"{group}={name}")
        config = whole[group]
    if "attack" not in values:
        config = recipes.attacked(whole, config)
    if not config:
        raise InputError(f"{group}={name} is nothing: leave it out")
    plain = {key: value for key, value in config.items() if key not in (*GROUPS[group], *values)}
    for key, value in plain.items():
        if isinstance(value, Mapping) and not value:
            raise InputError(f"{group}={name} needs an object: give {key}=")
    check_arguments({"_target_": config["_target_"], **values})
    return build_tree(plain, **values)


def composed(*words: str) -> dict[str, Any]:
    """The configuration that a line of overrides gives, as plain containers. Raises InputError for a wrong one."""
    return copy.deepcopy(_composed(words))


@cache
def _composed(words: tuple[str, ...]) -> dict[str, Any]:
    overrides.register_resolvers()
    return overrides.compose_jobs(conf_folder(), overrides.parse_arguments(list(words)), "report").jobs[0].config


def section(config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A section of the configuration with the values that a call gives. Raises InputError for one that it lacks."""
    for name in given:
        if name not in config:
            raise InputError(f"there is no setting {name}; {nearest(name, list(config))}")
    return {**config, **given}


def word(key: str, value: object) -> str:
    """An override that sets a value.

    >>> word("dataset.split", {"seed": 7, "train": "all"})
    "dataset.split={seed: 7, train: 'all'}"
    """
    return f"{key}={_written(value)}"


def _written(value: object) -> str:
    """A value in the grammar of overrides."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_written(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    return shorthands.quoted(str(value)) if isinstance(value, str | Path) else str(value)

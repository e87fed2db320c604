"""A stage of the plan, with the version of its code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcr.store import Stage

# A moved number demands a new version of its stage.
VERSIONS = {
    "data": 1,
    "split": 1,
    "poison": 1,
    "train": 1,
    "load": 2,  # the names in the file are kept
    "tamper": 1,
    "release": 1,
    "permute": 1,
    "connect": 1,
    "evaluate": 3,  # curvature, correlations and intervals; BatchNorm's statistics without torch's rounding
    "guard": 2,  # BatchNorm's statistics, as for evaluate
    "relations": 2,  # BatchNorm's statistics, as for evaluate
    "report": 2,  # the guard and the relations
    "vet": 1,
    "repair": 2,  # BatchNorm's statistics, as for evaluate
    "card": 1,
}
ROLES = ("start", "end")
Config = Mapping[str, Any]
Stages = Mapping[str, Stage]


def node(name: str, label: str, config: Config, **needs: Stage) -> Stage:
    """The stage of a module below ``mcr.stages``."""
    return Stage(name, VERSIONS[name] + _refreshing(name, config), config, needs, label)


def _refreshing(name: str, config: Config) -> int:
    """1 for a path whose fitting estimates BatchNorm's statistics, since that is done in two passes."""
    attacks = "attack" in config.get("recipe", {}).get("objective", {})
    return int(name == "connect" and (attacks or "free_ends" in config))

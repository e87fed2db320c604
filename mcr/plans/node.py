"""A stage of the plan, with the version of its code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcr.store.stage import Stage

# A moved number demands a new version of its stage.
VERSIONS: dict[str, int] = {
    "card": 2,
    "choose": 2,
    "load": 2,
    "measure": 2,
    "pick": 2,
    "place": 2,
    "refit": 2,
    "report": 4,
}
Config = Mapping[str, Any]
Stages = Mapping[str, Stage]


def node(name: str, label: str, config: Config, **needs: Stage) -> Stage:
    """The stage of a module below ``mcr.stages``."""
    return Stage(name, VERSIONS.get(name, 1), config, needs, label)

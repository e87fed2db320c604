"""Whether a network suits the objective or the probe of a stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mcr.stages import model
from mcr.stages.artifacts import DataSpec
from mcr.store import build
from mcr.store.stage import Stage


def demanding(config: Mapping[str, Any]) -> list[Any]:
    """The objective and the probe of a stage, where they can ``refuse`` a network; no other one is built."""
    parts = (config.get("recipe", {}).get("objective"), config.get("probe"))
    return [build.build_tree(part) for part in parts if part and hasattr(build.locate(part["_target_"]), "refuse")]


def refuse_unsuited(demands: list[Any], stage: Stage, spec: DataSpec) -> None:
    """Raises InputError for a network that one of them refuses, asked with fresh weights and one black image."""
    configs = (stage.config, *(need.config for need in stage.needs.values()))
    network = model.make(next(config for config in configs if "architecture" in config), spec, "0")
    for demand in demands:
        demand.refuse(network, torch.zeros(1, spec.channels, *spec.image_size))

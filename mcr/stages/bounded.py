"""Whether a network has the bounds that a stage will ask it for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mcr.bounds.interval import margins
from mcr.objectives.certified import Certified
from mcr.probes.certified_risk import CertifiedRisk
from mcr.stages import model
from mcr.stages.artifacts import DataSpec
from mcr.store import build
from mcr.store.stage import Stage


def asks(config: Mapping[str, Any]) -> bool:
    """Whether a stage's objective or probe bounds networks."""
    parts = (config.get("recipe", {}).get("objective"), config.get("probe"))
    return any(part and build.locate(part["_target_"]) in (Certified, CertifiedRisk) for part in parts)


def refuse_unbounded(stage: Stage, spec: DataSpec) -> None:
    """Raises InputError for a network without bounds in the mode that it will have: training, or else evaluation."""
    configs = (stage.config, *(need.config for need in stage.needs.values()))
    network = model.make(next(config for config in configs if "architecture" in config), spec, "0")
    with torch.no_grad():
        image = torch.zeros(1, spec.channels, *spec.image_size)
        margins(network.train("recipe" in stage.config), image, torch.zeros(1, dtype=torch.long), 0.0)

"""How much training the paper's overlays ask for, counted from their plans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mcr.app import cli, overrides
from mcr.plans import pipeline
from mcr.store.stage import Stage

# The overlays of the paper's own size; the others are smaller forms of the same.
PAPER = ("zhao2020_fig2_backdoor_path", "zhao2020_fig4_barrier", "zhao2020_robust_connection")


def epochs(experiment: str, images: int) -> Counter[str]:
    """Epochs by kind ("endpoint", "curve", "adversarial endpoint", "adversarial curve"), each stage counted once.

    Args:
        experiment: An option of that group.
        images: Of an epoch, for budgets that are given in steps.
    """
    overrides.register_resolvers()
    arguments = overrides.parse_arguments([f"experiment={experiment}", "-m"])
    seen: dict[str, Stage] = {}
    for job in overrides.compose_jobs(cli.conf_folder(), arguments, "report").jobs:
        for stage in pipeline.ordered(pipeline.plan(job.config)["report"]):
            seen[stage.key] = stage
    found: Counter[str] = Counter()
    for stage in seen.values():
        recipe = stage.config.get("recipe")
        if stage.name in ("train", "connect") and recipe is not None:
            found[_kind(stage)] += _epochs(recipe, images)
    return found


def _kind(stage: Stage) -> str:
    shape = "curve" if stage.name == "connect" else "endpoint"
    return f"adversarial {shape}" if "attack" in stage.config["recipe"]["objective"] else shape


def _epochs(recipe: Mapping[str, Any], images: int) -> int:
    if "epochs" in recipe:
        return int(recipe["epochs"])
    return -(-int(recipe["steps"]) * int(recipe["batch_size"]) // images)

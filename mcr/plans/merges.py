"""The merged networks of a run: places that a rule picks on validation images, and what test images say of them."""

from __future__ import annotations

from typing import Any

from mcr.plans import recipes
from mcr.plans.node import Config, Stages, node
from mcr.plans.subspaces import place_config, roles, subspace
from mcr.store.stage import Stage

MERGED = "merged "  # before a merge's name in the roles of its measures


def merged(cfg: Config, model: Config, ends: Stages, dataset: Stages, material: Config) -> dict[str, dict[str, Stage]]:
    """Name of a merge to its measures, by probe; a probe without an attack (attack=none) is not asked.

    Args:
        cfg: The whole configuration.
        model: Architecture and normalisation.
        ends: The networks.
        dataset: The stages ``data`` and ``split``.
        material: The images that the run's subspace is fitted on, which estimate BatchNorm.
    """
    return {name: _measures(cfg, name, part, model, ends, dataset, material) for name, part in cfg["merges"].items()}


def _measures(
    cfg: Config, name: str, part: Config, model: Config, ends: Stages, dataset: Stages, material: Config
) -> dict[str, Stage]:
    key = f"merges.{name}.curve"
    space = subspace(cfg, name, {"curve": part["curve"], "objective": cfg["objective"]}, model, ends, dataset, key)
    evaluation = cfg["evaluation"]
    config = {
        **place_config(cfg, space, ends, material),
        "merge": recipes.without(part, "curve"),
        "batch_size": evaluation["batch_size"],
    }
    needs = {"subspace": space, **roles(ends), **dataset}
    pick = node("pick", f"pick {name}", config, **needs)
    found = {}
    for probe, chosen in cfg["merge_probes"].items():
        asked = recipes.attacked(cfg, chosen)
        if asked["images"] == 0 or asked.get("attack") == {}:
            continue
        measure: dict[str, Any] = {
            "name": probe,
            "probe": recipes.without(asked, "images"),
            "data": "test",
            "images": asked["images"],
            "at": "all",
            "batch_size": evaluation["batch_size"],
            "seed": evaluation["seed"],
        }
        found[probe] = node("measure", f"measure {probe} {name}", measure, place=pick, **needs)
    return found

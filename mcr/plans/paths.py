"""A path between two ends, and what is measured along it."""

from __future__ import annotations

from typing import Any

from mcr import identity
from mcr.errors import InputError
from mcr.plans import recipes
from mcr.plans.node import Config, Stages, node
from mcr.store import Stage


def connection(
    cfg: Config,
    curve: Config,
    model: Config,
    ends: Stages,
    materials: Stages,
) -> Stage:
    if cfg["connection"]["split"] not in ("train", "clean"):
        raise InputError(f"connection.split={cfg['connection']['split']} is no split to fit on: train or clean")
    name = curve["_target_"].rsplit(".", 1)[1].lower()
    config: dict[str, Any] = {**model, "curve": curve}
    if curve.get("points", 2) > 2:
        config |= {
            "augmentation": cfg["dataset"]["augmentation"],
            "recipe": recipes.connection(cfg),
            "seed": identity.key({"replicate": cfg["replicate"], "curve": name}),
            **recipes.connection_material(cfg),
        }
    return node("connect", f"connect {name}", config, **ends, **materials)


def evaluation(cfg: Config, role: str, path: Stage, ends: Stages, materials: Stages) -> Stage:
    part = cfg["evaluation"]
    config = {
        **{key: path.config[key] for key in ("architecture", "normalization", "curve")},
        "augmentation": cfg["dataset"]["augmentation"],
        "split": cfg["connection"]["split"],
        "evaluation": {**part, "attack": recipes.overlay(cfg["attack"], part["attack"])},
        **recipes.connection_material(cfg),
        **trigger(cfg),
    }
    return node("evaluate", f"evaluate {role}", config, path=path, **ends, **materials)


def trigger(cfg: Config) -> dict[str, Any]:
    """The backdoor that an evaluation looks for, where there is one."""
    if recipes.named(cfg["backdoor"], "NoBackdoor"):
        return {}
    return {"backdoor": cfg["backdoor"], "sources": cfg["poisoning"]["sources"]}

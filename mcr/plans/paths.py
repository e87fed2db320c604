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
    objective: Config,
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
            "recipe": recipes.connection(cfg, objective),
            "seed": identity.key({"replicate": cfg["replicate"], "curve": name}),
            **recipes.connection_material(cfg),
        }
    return node("connect", f"connect {name}", config, **ends, **materials)


def evaluation(cfg: Config, role: str, path: Stage, ends: Stages, materials: Stages) -> Stage:
    """The table of a path."""
    names = [name for name in cfg["evaluation"] if name not in ("guard", "relations", "precision")]
    part = {**recipes.measured(cfg, *names), "attack": recipes.evaluated(cfg)}
    config = {**_along(cfg, path), **trigger(cfg), "evaluation": part}
    return node("evaluate", f"evaluate {role}", config, path=path, **ends, **materials)


def guard(cfg: Config, path: Stage, table: Stage, ends: Stages, materials: Stages) -> dict[str, Stage]:
    """The look for masked gradients, where there is an attack and images to try stronger ones on."""
    part, attack = cfg["evaluation"]["guard"], recipes.evaluated(cfg)
    if recipes.named(attack, "NoAttack") or not part["images"] or not part["attacks"]:
        return {}
    attacks = {name: recipes.stronger(attack, chosen) for name, chosen in part["attacks"].items()}
    config = {**_along(cfg, path), "evaluation": {**_walked(cfg), "guard": {**part, "attacks": attacks}}}
    return {"guard": node("guard", "guard", config, path=path, table=table, **ends, **materials)}


def relations(cfg: Config, path: Stage, ends: Stages, materials: Stages) -> dict[str, Stage]:
    """The comparison of the path's points with each other, where there are images for it."""
    part = cfg["evaluation"]
    if not part["relations"]["images"]:
        return {}
    asked = {"attack": recipes.evaluated(cfg), **{name: part[name] for name in ("attack_precision", "relations")}}
    config = {**_along(cfg, path), **trigger(cfg), "evaluation": {**_walked(cfg), **asked}}
    return {"relations": node("relations", "relations", config, path=path, **ends, **materials)}


def _along(cfg: Config, path: Stage) -> dict[str, Any]:
    """What every stage that stands at points of a path depends on."""
    return {
        **{key: path.config[key] for key in ("architecture", "normalization", "curve")},
        "augmentation": cfg["dataset"]["augmentation"],
        "split": cfg["connection"]["split"],
        **recipes.connection_material(cfg),
    }


def _walked(cfg: Config) -> dict[str, Any]:
    return recipes.measured(cfg, "batch_size", "memory_format", "batchnorm_images", "seed")


def trigger(cfg: Config) -> dict[str, Any]:
    """The backdoor that an evaluation looks for, where there is one."""
    if recipes.named(cfg["backdoor"], "NoBackdoor"):
        return {}
    return {"backdoor": cfg["backdoor"], "sources": cfg["poisoning"]["sources"]}

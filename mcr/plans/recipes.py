"""Recipes: what of a configuration a stage depends on. No torch work happens here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcr import identity

Config = Mapping[str, Any]


def without(config: Config, *names: str) -> dict[str, Any]:
    """A copy that lacks some keys."""
    return {key: value for key, value in config.items() if key not in names}


def named(config: Config, *names: str) -> bool:
    """Whether a configuration's target is one of these classes."""
    return str(config["_target_"]).rsplit(".", 1)[-1] in names


def architecture(config: Config) -> dict[str, Any]:
    """The network's arguments, and what stands behind its import path where that is not this package."""
    if config["_target_"].startswith("mcr."):
        return dict(config)
    return {**config, "source": identity.source_digest(config["_target_"])}


def overlay(root: Config, difference: Config) -> dict[str, Any]:
    """The root's choice with what differs here; a difference that names another target replaces it whole."""
    if difference.get("_target_", root["_target_"]) != root["_target_"]:
        return dict(difference)
    return {**root, **difference}


def objective(cfg: Config, chosen: Config) -> dict[str, Any]:
    """An objective with its attack filled in from the root."""
    if "attack" not in chosen:
        return dict(chosen)
    return {**chosen, "attack": overlay(cfg["attack"], chosen["attack"])}


def evaluated(cfg: Config) -> dict[str, Any]:
    """The attack of the evaluation: the root's with what differs, or another one in the root's ball."""
    found = overlay(cfg["attack"], cfg["evaluation"]["attack"])
    if "_target_" in cfg["evaluation"]["attack"] and "eps" in found:
        return {**found, **_ball(cfg["attack"])}
    return found


def measured(cfg: Config, *names: str) -> dict[str, Any]:
    """Some of the evaluation's keys, with its precision where that is not float32: a recipe from before it was one."""
    part = cfg["evaluation"]
    return {name: part[name] for name in (*names, *(("precision",) if part.get("precision", "fp32") != "fp32" else ()))}


def _ball(attack: Config) -> dict[str, Any]:
    return {name: attack[name] for name in ("eps", "norm") if name in attack}


def stronger(attack: Config, chosen: Config) -> dict[str, Any]:
    """An attack of the guard in the evaluation's ball; PGD takes its step, or one with which it crosses the ball."""
    if named(chosen, "Pgd") and "step_size" not in chosen:
        crossing = 2.5 * attack["eps"] / max(1, chosen["steps"])  # Madry et al. (2018)
        return {**chosen, "step_size": attack.get("step_size", crossing), **_ball(attack)}
    return {**chosen, **_ball(attack)}


def training(cfg: Config, part: Config, chosen: Config) -> dict[str, Any]:
    """The recipe of a training: its own keys, with objective, optimizer and schedule filled in from the root.

    Args:
        cfg: The whole configuration.
        part: Where the training is configured (an endpoint, the connection).
        chosen: Its objective.
    """
    devices, found = cfg["runtime"]["devices"], overlay(cfg["optimizer"], part["optimizer"])
    unfused = found["_target_"].startswith("torch.optim.") and not found.get("fused")
    processes = len(devices) if isinstance(devices, list) else devices
    return {
        # Without patience nothing stops a training: the recipe is that of before there was any.
        **without(part, *(() if part.get("patience") else ("patience",))),
        # Each process normalises and augments its own share of a batch: other numbers than one process gives.
        **({"processes": processes} if processes > 1 else {}),
        # A compiled network draws its dropout otherwise, and rounds otherwise.
        **({"compile": backend} if (backend := cfg["runtime"].get("compile", "none")) != "none" else {}),
        "objective": objective(cfg, chosen),
        # Without a fused step the recipe is that of before there was one.
        "optimizer": without(found, *(("fused",) if unfused else ())),
        "schedule": overlay(cfg["schedule"], part["schedule"]),
    }


def defense(cfg: Config, optimizer: Config, rate: float, **part: Any) -> dict[str, Any]:
    """The recipe of a training on the defender's images: the same steps and batches for every method.

    Args:
        cfg: The whole configuration.
        optimizer: What differs from the root optimizer for this method.
        rate: Learning rate.
        **part: What else the method needs (its module).
    """
    shared = {name: cfg["defense"][name] for name in ("steps", "batch_size", "precision", "memory_format", "schedule")}
    own = {**part, **shared, "optimizer": {**optimizer, "lr": rate}}
    return training(cfg, own, cfg["objective"])


def material(cfg: Config) -> dict[str, Any]:
    """Which images the defender has."""
    return {"split": "clean", "images": cfg["defense"]["images"], "held_out": cfg["defense"]["held_out"]}


def connection(cfg: Config, chosen: Config) -> dict[str, Any]:
    """The recipe of fitting a path with an objective: so many epochs, or so many steps where these are given."""
    part = cfg["connection"]
    # Without averaging the recipe is that of before there was any.
    unused = ["images", "epochs" if part["steps"] else "steps", *(() if part["ema_decay"] else ("ema_decay",))]
    return training(cfg, without(part, *unused), chosen)


def connection_material(cfg: Config) -> dict[str, Any]:
    """Which images a path is fitted on, where these are not the whole split."""
    part = cfg["connection"]
    if part["images"] == "all":
        return {}
    return {"material": {"split": part["split"], "images": part["images"], "held_out": 0.0}}

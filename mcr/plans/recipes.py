"""Recipes: what of a configuration a stage depends on. No torch work happens here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mcr.errors import InputError
from mcr.text import printable

Config = Mapping[str, Any]
NAME = re.compile(r"\w[\w-]{0,59}")
ROWS = ("after", "untampered", "scratch", "cleaned", "clean_images")  # of a card, beside the networks that were given
MOST = 80  # characters of what is no name in a message
PLANNED = ("kind", "label", "numbers", "use", "data", "joint", "reference")  # of an edit: what only a plan reads
JOINT = ("rows", "columns")  # settings of a sweep's report, which a report of one run does not read


def check_names(cfg: Config) -> None:
    """Raises InputError for a name that is no name: they become columns, files and labels of stages."""
    named = {group: cfg.get(group, {}) for group in ("endpoints", "probes", "references", "merges")}
    named |= {f"endpoints.{name}.edits": end["edits"] for name, end in cfg["endpoints"].items()}
    named["repair.members"] = cfg["repair"].get("members", {})
    named["suspicion.signals"] = cfg["suspicion"]["signals"]
    named |= {f"probes.{name}.attacks": probe.get("attacks", {}) for name, probe in cfg["probes"].items()}
    for group, names in named.items():
        if group == "endpoints" and (taken := [name for name in names if name in ROWS]):
            raise InputError(f"endpoints.{taken[0]}: a card calls something else so; another name")
        for name in names:
            if not NAME.fullmatch(str(name)):
                said = printable(repr(name), MOST)
                raise InputError(f"{printable(group)}: {said} is no name: letters, digits, _ and -, at most 60")


def without(config: Config, *names: str) -> dict[str, Any]:
    """A copy that lacks some keys."""
    return {key: value for key, value in config.items() if key not in names}


def poisoning(cfg: Config) -> dict[str, Any]:
    """What of the poisoning a stage depends on.

    Raises:
        InputError: For clean labels where every class has a target of its own.
    """
    part = without(cfg["poisoning"], "sets")
    clean = one_of("poisoning.labels", part["labels"], ("dirty", "clean")) == "clean"
    if clean and cfg["backdoor"]["target"] == "next":
        raise InputError("poisoning.labels=clean stamps the target class: give the backdoor one, such as target=1")
    return part


def one_of(name: str, value: object, choices: tuple[str, ...]) -> str:
    """The value. Raises InputError where it is none of the choices."""
    if value not in choices:
        raise InputError(f"{name}={str(value)[:MOST]} must be {' or '.join(choices)}")
    return str(value)


def overlay(root: Config, difference: Config) -> dict[str, Any]:
    """The root's choice with what differs here; a difference that names another target replaces it whole."""
    if difference.get("_target_", root.get("_target_")) != root.get("_target_"):
        return dict(difference)
    return {**root, **difference}


def attacked(cfg: Config, part: Config) -> dict[str, Any]:
    """An objective or a probe with its attack filled in from the root; another attack stays in the root's ball.

    Where the root has none, an empty mapping is left: nobody attacks.
    """
    if "attack" not in part:
        return dict(part)
    found = overlay(cfg["attack"], part["attack"])
    if "_target_" in part["attack"] and "eps" in found:
        found |= ball(cfg["attack"])
    return {**part, "attack": found}


def ball(attack: Config) -> dict[str, Any]:
    """Radius and norm of an attack."""
    return {name: attack[name] for name in ("eps", "norm") if name in attack}


def training(cfg: Config, part: Config, objective: Config) -> dict[str, Any]:
    """The recipe of a training: its own keys, with objective, optimizer and schedule filled in from the root.

    Args:
        cfg: The whole configuration.
        part: Where the training is configured (an endpoint, the fit of a path, the defender's budget).
        objective: Its objective.
    """
    devices = cfg["runtime"]["devices"]
    unused = "epochs" if part.get("steps") else "steps"  # the budget is given in one of them
    return {
        **without(part, unused),
        # Each process normalises and augments its own share of a batch: other numbers than one process gives.
        "processes": len(devices) if isinstance(devices, list) else devices,
        # A compiled network draws its dropout otherwise, and rounds otherwise.
        "compile": cfg["runtime"]["compile"],
        "steps_per_epoch": cfg["training"]["steps_per_epoch"],
        "watch": cfg["watch"],
        "objective": _objective(cfg, objective),
        "optimizer": overlay(cfg["optimizer"], part["optimizer"]),
        "schedule": overlay(cfg["schedule"], part["schedule"]),
    }


def places(cfg: Config) -> dict[str, Any]:
    """Where a subspace is fitted: the sampler, and how many places each step has."""
    return {"sampling": cfg["sampling"], "places": cfg["fit"]["places"]}


def refuse_start(cfg: Config, of: str) -> None:
    """Raises InputError where a start is chosen for what begins on the blend of its networks.

    Args:
        cfg: The whole configuration.
        of: What begins there.
    """
    if cfg["start"]:
        raise InputError(f"{of} begins on the blend of the networks: start=blend")


def _objective(cfg: Config, objective: Config) -> dict[str, Any]:
    found = attacked(cfg, objective)
    if "attack" in found and not found["attack"]:
        raise InputError("an adversarial objective needs an attack; attack=none has none")
    return found


def material(cfg: Config) -> dict[str, Any]:
    """Which images the defender has."""
    return {
        "split": "clean",
        "images": cfg["repair"]["budget"]["images"],
        "held_out": cfg["repair"]["budget"]["held_out"],
    }


def budget(cfg: Config, module: Config, optimizer: Config, objective: Config) -> dict[str, Any]:
    """The recipe of a training on the defender's images: the same steps and batches for every repair.

    Args:
        cfg: The whole configuration.
        module: What trains.
        optimizer: What differs from the root optimizer.
        objective: What is minimised.
    """
    part = without(cfg["repair"]["budget"], "images", "held_out", "rates", "taken")
    return training(cfg, {**part, "module": module, "optimizer": optimizer}, objective)

"""The plan: which stages a configuration asks for, and what each needs. No torch work happens here."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcr import identity
from mcr.errors import InputError
from mcr.store import Stage, Store

if TYPE_CHECKING:
    from mcr.stages.context import Context

# A moved number demands a new version of its stage.
VERSIONS = {"data": 1, "split": 1, "train": 1, "load": 1, "connect": 1, "evaluate": 1, "report": 1}


def plan(cfg: Mapping[str, Any], title: str = "") -> dict[str, list[Stage]]:
    """Goal to the stages that reach it, from a resolved configuration.

    Args:
        cfg: The composed configuration as plain containers.
        title: What the report calls this run.
    """
    dataset = _without(cfg["dataset"], "split", "augmentation", "root")
    places = {"root": cfg["dataset"]["root"]} if "root" in cfg["dataset"] else {}
    data = Stage("data", VERSIONS["data"], {"dataset": dataset}, label="data", places=places)
    split = _stage("split", "split", cfg["dataset"]["split"], data=data)
    model = {"architecture": _architecture(cfg["architecture"]), "normalization": cfg["normalization"]}
    materials = {"data": data, "split": split}
    ends = {role: _endpoint(cfg, role, member, model, materials) for member, role in enumerate(("start", "end"))}
    curves = {"path": cfg["curve"]}
    if "reference" in cfg and identity.canonical(cfg["reference"]) != identity.canonical(cfg["curve"]):
        curves["reference"] = cfg["reference"]
    paths = {role: _connection(cfg, curve, model, ends, materials) for role, curve in curves.items()}
    tables = {role: _evaluation(cfg, role, path, ends, materials) for role, path in paths.items()}
    report = _stage("report", "report", {"report": cfg["report"], "claims": cfg["claims"], "title": title}, **tables)
    return {
        "train": list(ends.values()),
        "connect": list(paths.values()),
        "evaluate": list(tables.values()),
        "report": [report],
    }


def ordered(goals: list[Stage]) -> list[Stage]:
    """All stages that the goals need, each once, needs first."""
    seen: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        for need in stage.needs.values():
            visit(need)
        seen.setdefault(stage.key, stage)

    for goal in goals:
        visit(goal)
    return list(seen.values())


def make(goals: list[Stage], store: Store, context: Context) -> Iterator[tuple[Stage, Path, str]]:
    """Fetch or compute the goals and what they need; yields stage, folder and "hit" or "made" as they come.

    What is only needed by a hit is not looked at.
    """
    wanted = {goal.key for goal in goals}
    for stage in reversed(ordered(goals)):
        if stage.key in wanted and not store.has(stage):
            wanted |= {need.key for need in stage.needs.values()}
    for stage in ordered(goals):
        if stage.key not in wanted:
            continue
        computed: list[str] = []
        inputs = {role: store.folder(need) for role, need in stage.needs.items()}

        def compute(
            folder: Path, stage: Stage = stage, inputs: dict[str, Path] = inputs, computed: list[str] = computed
        ) -> None:
            importlib.import_module(f"mcr.stages.{stage.name}").compute(stage, inputs, folder, context)
            computed.append(stage.key)

        folder = store.fetch(stage, compute, context.device_name)
        yield stage, folder, "made" if computed else "hit"


def _stage(name: str, label: str, config: Mapping[str, Any], **needs: Stage) -> Stage:
    return Stage(name, VERSIONS[name], config, needs, label)


def _without(config: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in names}


def _architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    if config["_target_"].startswith("mcr."):
        return dict(config)
    return {**config, "source": identity.source_digest(config["_target_"])}


def overlay(root: Mapping[str, Any], difference: Mapping[str, Any]) -> dict[str, Any]:
    """The root's choice with what differs here; a difference that names another target replaces it whole."""
    if difference.get("_target_", root["_target_"]) != root["_target_"]:
        return dict(difference)
    return {**root, **difference}


def _objective(cfg: Mapping[str, Any], objective: Mapping[str, Any]) -> dict[str, Any]:
    if "attack" not in objective:
        return dict(objective)
    return {**objective, "attack": overlay(cfg["attack"], objective["attack"])}


def _recipe(cfg: Mapping[str, Any], part: Mapping[str, Any], objective: Mapping[str, Any]) -> dict[str, Any]:
    devices = cfg["runtime"]["devices"]
    processes = len(devices) if isinstance(devices, list) else devices
    return {
        **part,
        # Each process normalises and augments its own share of a batch: other numbers than one process gives.
        **({"processes": processes} if processes > 1 else {}),
        "objective": _objective(cfg, objective),
        "optimizer": overlay(cfg["optimizer"], part["optimizer"]),
        "schedule": overlay(cfg["schedule"], part["schedule"]),
    }


def _endpoint(
    cfg: Mapping[str, Any], role: str, member: int, model: Mapping[str, Any], materials: Mapping[str, Stage]
) -> Stage:
    chosen = cfg["endpoints"][role]
    if "digest" in chosen:
        config = {**model, "digest": chosen["digest"]}
        needs = {"data": materials["data"]}
        return Stage("load", VERSIONS["load"], config, needs, f"load {role}", places={"path": chosen["path"]})
    config = {
        **model,
        "augmentation": cfg["dataset"]["augmentation"],
        "recipe": _recipe(cfg, chosen, chosen["objective"]),
        # The two ends differ by their member number alone, so a pair never joins a network to itself.
        "seed": identity.key({"replicate": cfg["replicate"], "member": member}),
    }
    return _stage("train", f"train {role}", config, **materials)


def _connection(
    cfg: Mapping[str, Any],
    curve: Mapping[str, Any],
    model: Mapping[str, Any],
    ends: Mapping[str, Stage],
    materials: Mapping[str, Stage],
) -> Stage:
    if cfg["connection"]["split"] not in ("train", "clean"):
        raise InputError(f"connection.split={cfg['connection']['split']} is no split to fit on: train or clean")
    name = curve["_target_"].rsplit(".", 1)[1].lower()
    config: dict[str, Any] = {**model, "curve": curve}
    if curve.get("points", 2) > 2:
        config |= {
            "augmentation": cfg["dataset"]["augmentation"],
            "recipe": _recipe(cfg, cfg["connection"], cfg["objective"]),
            "seed": identity.key({"replicate": cfg["replicate"], "curve": name}),
        }
    return _stage("connect", f"connect {name}", config, **ends, **materials)


def _evaluation(
    cfg: Mapping[str, Any], role: str, path: Stage, ends: Mapping[str, Stage], materials: Mapping[str, Stage]
) -> Stage:
    part = cfg["evaluation"]
    config = {
        **{key: path.config[key] for key in ("architecture", "normalization", "curve")},
        "augmentation": cfg["dataset"]["augmentation"],
        "split": cfg["connection"]["split"],
        "evaluation": {**part, "attack": overlay(cfg["attack"], part["attack"])},
    }
    return _stage("evaluate", f"evaluate {role}", config, path=path, **ends, **materials)

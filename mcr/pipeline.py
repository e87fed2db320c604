"""The plan: which stages a configuration asks for, and what each needs. No torch work happens here."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mcr.plans import defense, ends, paths, recipes
from mcr.plans.node import VERSIONS, Config, node
from mcr.store import Stage, Store

if TYPE_CHECKING:
    from mcr.stages.context import Context


def plan(cfg: Config, title: str = "") -> dict[str, list[Stage]]:
    """Goal to the stages that reach it, from a resolved configuration.

    Args:
        cfg: The composed configuration as plain containers.
        title: What the report calls this run.
    """
    dataset = recipes.without(cfg["dataset"], "split", "augmentation", "root")
    places = {"root": cfg["dataset"]["root"]} if "root" in cfg["dataset"] else {}
    data = Stage("data", VERSIONS["data"], {"dataset": dataset}, label="data", places=places)
    split = node("split", "split", cfg["dataset"]["split"], data=data)
    model = {"architecture": recipes.architecture(cfg["architecture"]), "normalization": cfg["normalization"]}
    materials = {"data": data, "split": split}
    plain, joined, attacker = ends.ends(cfg, model, materials)
    lines = {"path": paths.connection(cfg, cfg["curve"], cfg["objective"], model, joined, materials)}
    if attacker is not None:
        lines["reference"] = attacker
    elif "reference" in cfg:
        reference = paths.connection(cfg, cfg["reference"], cfg["reference_objective"], model, joined, materials)
        if reference.label == lines["path"].label:
            reference = replace(reference, label=f"{reference.label} reference")
        lines |= {"reference": reference} if reference.key != lines["path"].key else {}
    tables = {role: paths.evaluation(cfg, role, path, joined, materials) for role, path in lines.items()}
    beside = {
        **paths.guard(cfg, lines["path"], tables["path"], joined, materials),
        **paths.relations(cfg, lines["path"], joined, materials),
    }
    told = {"report": cfg["report"], "claims": cfg["claims"], "title": title}
    report = node("report", "report", told, **tables, **beside)
    return {
        "train": list(joined.values()),
        "connect": list(lines.values()),
        "evaluate": [*tables.values(), *beside.values()],
        "report": [report],
        "repair": [defense.card(cfg, title, model, plain, joined, materials)],
    }


def ordered(goals: list[Stage]) -> list[Stage]:
    """All stages that the goals need, each once, needs first."""
    seen: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.key in seen:
            return
        for need in stage.needs.values():
            visit(need)
        seen[stage.key] = stage

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

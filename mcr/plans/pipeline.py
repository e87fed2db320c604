"""The plan: which stages a configuration asks for, and what each needs. No torch work happens here."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcr.errors import InputError
from mcr.plans import merges as merging
from mcr.plans import plugins, precheck, recipes, repair
from mcr.plans.measures import measures
from mcr.plans.networks import Networks
from mcr.plans.node import Config, node
from mcr.plans.subspaces import FITTED, fit, subspace
from mcr.store.stage import Stage
from mcr.store.store import Store

if TYPE_CHECKING:
    from mcr.stages.context import Context


def plan(cfg: Config, title: str = "") -> dict[str, list[Stage]]:
    """Goal to the stages that reach it, from a resolved configuration.

    Args:
        cfg: The composed configuration as plain containers.
        title: What the report calls this run.
    """
    recipes.check_names(cfg)
    cfg = plugins.marked(cfg)
    read = recipes.without(cfg["dataset"], "split", "augmentation", "root")
    places = {"root": cfg["dataset"]["root"]} if "root" in cfg["dataset"] else {}
    data = Stage("data", 1, {"dataset": read}, label="data", places=places)
    split = node("split", "split", cfg["dataset"]["split"], data=data)
    model = {"architecture": cfg["architecture"], "normalization": cfg["normalization"]}
    dataset = {"data": data, "split": split}
    networks = Networks(cfg, model, dataset)
    ends = networks.final()
    references = cfg.get("references", {})  # all may be taken away: ~reference@references.straight
    parts = {FITTED: {"curve": cfg["curve"], "objective": cfg["objective"]}, **references}
    keys = {FITTED: "curve"} | {name: f"references.{name}.curve" for name in references}
    spaces = {name: subspace(cfg, name, part, model, ends, dataset, keys[name]) for name, part in parts.items()}
    labels = {FITTED: "curve"} | {name: part["label"] for name, part in references.items()}
    # A reference that is the fitted path itself says nothing.
    spaces = {name: one for name, one in spaces.items() if name == FITTED or one.key != spaces[FITTED].key}
    if networks.whole is not None:
        name, whole = networks.whole
        spaces, labels[name] = {FITTED: spaces[FITTED], name: whole}, whole.label
    if cfg["penalty"] and cfg["curve"]["fits"] == "nothing" and not networks.trains_together:
        raise InputError("a penalty is on control points that are fitted, and this curve has none: penalty=none")
    material = fit(cfg, parts[FITTED])["material"]
    measured = {name: measures(cfg, name, one, ends, dataset, material) for name, one in spaces.items()}
    settings: dict[str, Any] = {
        "report": recipes.without(cfg["report"], *recipes.JOINT),
        **{key: cfg[key] for key in ("claims", "statistics", "soundness")},
        "title": title,
        "labels": {name: labels[name] for name in spaces},
    }
    merged = merging.merged(cfg, model, ends, dataset, material)
    if merged:
        settings["merges"] = merging.settings(cfg)
    told = measured | {f"{merging.ROLE}/{name}": found for name, found in merged.items()}
    needs = {f"{name}/{probe}": stage for name, found in told.items() for probe, stage in found.items()}
    asked = [stage for found in told.values() for stage in found.values()]
    # First of the needs: what is wrong with a file is said before a path is fitted with it.
    checked = precheck.from_files(cfg, model, networks, ends, dataset)
    # A report names what is left out of a user's own images; of other data there is nothing to say.
    own = dataset if "fingerprint" in cfg["dataset"] else {}
    report = node("report", "report", settings, **checked, **needs, **_trainings(asked), **own)
    report = replace(report, beyond=tuple(stage.needs["place"] for stage in asked))
    trained = _trainings(list(ends.values()))
    card = repair.card(cfg, title, networks, ends, trained) if cfg["verb"] == "repair" else None
    file = [merging.file(cfg, title, merged, networks, checked, trained)] if cfg["verb"] == "merge" else []
    return {
        "train": list(ends.values()),
        "connect": [*checked.values(), *spaces.values()],
        "evaluate": [*checked.values(), *asked],
        "report": [report],
        "merge": file,
        "repair": [card, card.needs["choose"]] if card is not None else [],
    }


def _trainings(goals: list[Stage]) -> dict[str, Stage]:
    """All trained and loaded networks that the goals follow from: reports say what ended early or was found wrong."""
    return {f"training {one.label}": one for one in ordered(goals) if one.name in ("train", "connect", "load")}


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


def missing(goals: list[Stage], store: Store) -> list[Stage]:
    """The stages that have to be computed for the goals, needs first, judged by the sizes of files alone."""
    wanted, _ = _wanted(goals, store, contents=False)
    return [stage for stage in ordered(goals) if stage.key in wanted and not store.has(stage)]


def _wanted(goals: list[Stage], store: Store, contents: bool) -> tuple[set[str], set[str]]:
    """Keys of the stages that the goals fetch or compute, and of those whose files are read for that.

    Args:
        goals: What is asked for.
        store: Has some of it.
        contents: Whether what is read is compared with its digests.
    """
    read, wanted = {goal.key for goal in goals}, set[str]()
    for stage in reversed(ordered(goals)):
        state = store.state(stage, contents=contents and stage.key in read)
        if stage.key not in read and state != "damaged":
            continue
        wanted.add(stage.key)
        if state != "hit":
            read |= {need.key for need in (*stage.needs.values(), *stage.beyond)}
    return wanted, read


def make(goals: list[Stage], store: Store, context: Context) -> Iterator[tuple[Stage, Path, str]]:
    """Fetch or compute the goals and what they need; yields stage, folder and "hit" or "made" as they come.

    What is only needed by a hit may be missing; where it is there and damaged it is made anew too. The files of the
    goals, and of what a stage that is made will read, are compared with the digests that they were written with.
    """
    wanted, read = _wanted(goals, store, contents=True)
    for stage in ordered(goals):
        if stage.key not in wanted:
            continue
        computed: list[dict[str, int]] = []  # what it took
        inputs = {role: store.folder(need) for role, need in stage.needs.items()}

        def compute(
            folder: Path,
            stage: Stage = stage,
            inputs: dict[str, Path] = inputs,
            computed: list[dict[str, int]] = computed,
        ) -> None:
            with context.spending() as spent:
                importlib.import_module(f"mcr.stages.{stage.name}").compute(stage, inputs, folder, context)
            computed.append(spent)

        def machine(computed: list[dict[str, int]] = computed) -> dict[str, Any]:
            return {**context.machine(), **computed[-1]}

        folder = store.fetch(stage, compute, machine, contents=stage.key in read)
        yield stage, folder, "made" if computed else "hit"

"""Merged networks: places that are chosen on validation images, and what is asked of the networks there on others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mcr.errors import InputError
from mcr.plans import recipes
from mcr.plans.measures import asked, question
from mcr.plans.networks import Networks
from mcr.plans.node import Config, Stages, node
from mcr.plans.subspaces import place_config, roles, subspace
from mcr.store.stage import Stage

ROLE = "merge"  # a report's needs are "merge/NAME/PROBE"
PLANNED = ("label", "curve", "objective", "data", "images")  # of a merge's configuration: what the rule is not told


def chosen(cfg: Config) -> dict[str, Config]:
    """The merges of a run, those that stand beside first; nothing where none is asked for.

    Raises:
        InputError: For a merge that takes the name of one that stands beside, and is another one.
    """
    beside, wanted = cfg["merging"]["beside"], cfg["merges"]
    for name, part in wanted.items():
        if part != beside.get(name, part):
            raise InputError(f"merges.{name}: what stands beside every merge is called {name}; take another name")
    # What is asked for once stands there once; the first of those beside is what all others are compared with.
    kept = {name: part for index, (name, part) in enumerate(beside.items()) if not index or part not in wanted.values()}
    return {**kept, **wanted} if wanted else {}


def file(
    cfg: Config, title: str, merged: Mapping[str, Stages], networks: Networks, checked: Stages, trained: Stages
) -> Stage:
    """The one merge that is written as a file of weights, with its card.

    Args:
        cfg: The whole configuration.
        title: What the card calls this run.
        merged: See ``merged``.
        networks: Makes the first network, whose file says how the weights are named.
        checked: The stage that asks networks from files, by its role.
        trained: All trainings, by role: the card says which of them ended early.

    Raises:
        InputError: Where no merge is chosen, or several are.
    """
    if len(cfg["merges"]) != 1:
        raise InputError(f"mcr merge writes one network, merges has {len(cfg['merges'])}: mcr merge merge=greedy_soup")
    (name,) = cfg["merges"]
    asked = {f"{ROLE}/{one}/{probe}": stage for one, found in merged.items() for probe, stage in found.items()}
    pick = next(iter(merged[name].values())).needs["place"]
    first = networks.after(networks.names[0], 0)
    needs = dict(pick.needs) | ({"file": first} if first.name == "load" else {})
    config = {"merge": name, "merges": settings(cfg), "title": title}
    return replace(
        node("merge", "merge", config, **checked, **asked, **trained, **needs, pick=pick),
        beyond=tuple(stage.needs["place"] for stage in asked.values()),
    )


def settings(cfg: Config) -> dict[str, Any]:
    """What a report reads of the merges."""
    labels = {name: one["label"] for name, one in chosen(cfg).items()}
    return {"labels": labels, "far": cfg["merging"]["far"]}


def merged(cfg: Config, model: Config, ends: Stages, dataset: Stages, material: Config) -> dict[str, dict[str, Stage]]:
    """Merge to probe to its stage. The places of a merge know of the test images nothing.

    Args:
        cfg: The whole configuration.
        model: Architecture and normalisation.
        ends: The networks.
        dataset: The stages ``data`` and ``split``.
        material: The images that BatchNorm is estimated on, those that a path is fitted on.
    """
    probes = asked({**cfg, "probes": cfg["merging"]["probes"]}, ends)
    found: dict[str, dict[str, Stage]] = {}
    for name, part in chosen(cfg).items():
        space = subspace(cfg, name, part, model, ends, dataset, f"merges.{name}.curve")
        recipes.one_of(f"merges.{name}.data", part["data"], ("validation", "clean"))
        config = {
            **place_config(cfg, space, ends, material),
            "merge": recipes.without(part, *PLANNED),
            **{key: part[key] for key in ("data", "images")},
            "batch_size": cfg["evaluation"]["batch_size"],
        }
        needs = {"subspace": space, **roles(ends), **dataset}
        pick = node("pick", f"pick {name}", config, **needs)
        found[name] = {
            probe: node("measure", f"measure {name} {probe}", question(cfg, probe, one), place=pick, **needs)
            for probe, one in probes.items()
        }
    return found

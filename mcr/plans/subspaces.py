"""The subspaces of a run: the fitted one, references beside it, and the places where networks of them are measured."""

from __future__ import annotations

from typing import Any

from mcr.errors import InputError
from mcr.plans import recipes
from mcr.plans.edges import edges
from mcr.plans.node import Config, Stages, node
from mcr.store import identity
from mcr.store.stage import Stage

FITTED = "path"  # the name of THE subspace of a run


def roles(ends: Stages) -> dict[str, Stage]:
    """The networks that a subspace joins, by their number."""
    return {f"end {index}": end for index, end in enumerate(ends.values())}


def joined(curve: Config, ends: Stages, name: str) -> None:
    """Raises InputError where a curve joins another number of networks, or its YAML does not say how many."""
    if not {"joins", "fits"} <= set(curve):
        raise InputError(
            f"{name}: its YAML must say how many networks it joins (joins: 2) and what it fits (fits: inner)"
        )
    if curve["joins"] != len(ends):
        raise InputError(
            f"{name}={_chosen(curve)} joins {curve['joins']} networks, endpoints has {len(ends)}: {', '.join(ends)}"
        )


def _chosen(curve: Config) -> str:
    return str(curve["_target_"]).rsplit(".", 2)[-2]


def fit(cfg: Config, part: Config) -> dict[str, Any]:
    """The material and the recipe of fitting a subspace.

    Args:
        cfg: The whole configuration.
        part: ``curve`` and ``objective``.
    """
    split = recipes.one_of("fit.split", cfg["fit"]["split"], ("train", "clean"))
    chosen = recipes.without(cfg["fit"], "split", "images") | recipes.places(cfg)
    recipe = recipes.training(cfg, chosen, part["objective"])
    return {"material": {"split": split, "images": cfg["fit"]["images"], "held_out": 0}, "recipe": recipe}


def subspace(cfg: Config, name: str, part: Config, model: Config, ends: Stages, dataset: Stages, key: str) -> Stage:
    """The fit of a subspace; where nothing is fitted, no training is part of it.

    Args:
        name: Of the subspace, for labels.
        part: ``curve`` and ``objective``.
        key: Of its curve, for messages.
    """
    curve = part["curve"]
    joined(curve, ends, key)
    config: dict[str, Any] = {
        **model,
        "curve": recipes.without(curve, "joins", "fits"),
        "transform": cfg["transform"],
    }
    fitted: Stages = {}
    if recipes.one_of("curve.fits", curve["fits"], ("inner", "nothing")) == "inner":
        config |= {
            "free": "inner",
            "augmentation": cfg["dataset"]["augmentation"],
            **fit(cfg, part),
            "seed": identity.key(
                {"replicate": cfg["replicate"], "curve": str(curve["_target_"]).split(".")[-1].lower()}
            ),
        }
        start = cfg["start"]
        if start:
            config["start"] = recipes.without(start, "edges", "joins")
        if cfg["penalty"]:
            config["penalty"] = cfg["penalty"]
        if "joins" in start and start["joins"] != len(ends):
            raise InputError(f"start joins {start['joins']} networks, {key} {len(ends)}: start=blend")
        if "edges" in start:
            blended = {**cfg, "start": {}, "penalty": {}}

            def edge(curve: Config, pair: Stages, label: str) -> Stage:
                return subspace(blended, label, {**part, "curve": curve}, model, pair, dataset, key)

            fitted = edges(start, curve, ends, edge)
    return node("connect", f"connect {name}", config, **fitted, **roles(ends), **dataset)


def place(cfg: Config, name: str, at: Any, space: Stage, ends: Stages, dataset: Stages, material: Config) -> Stage:
    """The places of a subspace where networks are measured, with BatchNorm's statistics of each.

    Args:
        name: Of the subspace.
        at: A number of places along each edge, or a list of them.
        space: The fitted subspace.
        material: The images that it was fitted on.
    """
    config = {**place_config(cfg, space, ends, material), "at": at}
    return node("place", f"place {name}", config, subspace=space, **roles(ends), **dataset)


def place_config(cfg: Config, space: Stage, ends: Stages, material: Config) -> dict[str, Any]:
    """What a network at a place of a subspace depends on, beside the place."""
    part = cfg["evaluation"]
    return {
        **{key: space.config[key] for key in ("architecture", "normalization", "curve", "transform")},
        "ends": list(ends),
        "augmentation": cfg["dataset"]["augmentation"],
        "material": material,
        "batchnorm": {
            "images": part["batchnorm_images"],
            "batch_size": part["batchnorm_batch"],
            "precision": part["precision"],
            "seed": part["seed"],
        },
        "memory_format": part["memory_format"],
    }

"""The repair of the first network, and its card."""

from __future__ import annotations

from typing import Any

from mcr.errors import InputError
from mcr.plans import recipes
from mcr.plans.measures import asked
from mcr.plans.networks import Networks
from mcr.plans.node import Config, Stages, node
from mcr.plans.precheck import prechecked
from mcr.plans.subspaces import joined, place, roles
from mcr.store import identity
from mcr.store.stage import Stage

RATE, PLACE = "rate ", "place "  # the roles of what was trained with a learning rate, and of its places
# Of a repair's configuration: how candidates are trained, which the stage that chooses one does not read.
TRAINED = ("name", "trains", "begin", "module", "optimizer", "weight_decay", "ema_decay", "budget")
CARD = ("test", "attack", "injection", "restored")  # probes whose shares stand on a card, where they are asked


def card(cfg: Config, title: str, networks: Networks, ends: Stages, trainings: Stages) -> Stage:
    """The repair and its card. What chooses the repair knows neither the trigger nor the test images.

    Args:
        cfg: The whole configuration.
        title: What the card calls this run.
        networks: Makes the untampered network.
        ends: The networks that are repaired.
        trainings: Of these, by role: the card says which of them ended early.
    """
    method, dataset, model = cfg["repair"], networks.dataset, networks.model
    _check(cfg)
    seed = identity.key({"replicate": cfg["replicate"], "use": "repair"})
    material = recipes.material(cfg)
    trained = _trained(cfg, method, networks, ends, seed)
    part = cfg["evaluation"]
    config = {
        **model,
        "ends": list(ends),
        "augmentation": cfg["dataset"]["augmentation"],
        "material": material,
        "repair": recipes.without(method, *TRAINED),
        "selection": cfg["selection"],
        "batchnorm": {
            "images": part["batchnorm_images"],
            "batch_size": part["batchnorm_batch"],
            "precision": part["precision"],
            "seed": part["seed"],
        },
        "batch_size": part["batch_size"],
        "memory_format": part["memory_format"],
        "seed": seed,
    }
    untampered = networks.untampered(networks.names[0])
    # Only a file that a user gave has names and types of its own, which the cleaned file is to have again.
    file = {"file": untampered} if untampered.name == "load" else {}
    # First of the needs, so that networks that only guess are refused before anything is trained.
    floor = cfg["training"]["min_accuracy_over_chance"]
    precheck = prechecked(cfg, model, seed, material, floor, ends, dataset)
    choose = node("choose", "choose", config, precheck=precheck, **file, **trained, **roles(ends), **dataset)
    probes = {
        name: {
            "probe": recipes.without(probe, "data", "images", "at", "along"),
            **{k: probe[k] for k in ("data", "images")},
        }
        for name, probe in asked(cfg, ends).items()
        if name in CARD
    }
    measured = {
        "method": method["name"],
        "replicate": cfg["replicate"],
        "probes": probes,
        "card": cfg["card"],
        "report": recipes.without(cfg["report"], *recipes.JOINT),
        "claims": cfg["claims"],
        "soundness": cfg["soundness"],
        "title": title,
        "backdoor": cfg["backdoor"],
        "sources": cfg["poisoning"]["sources"],
    }
    needs = {**file, **trained, **roles(ends), **dataset}
    return node("card", "card", measured, precheck=precheck, choose=choose, untampered=untampered, **trainings, **needs)


def _trained(cfg: Config, method: Config, networks: Networks, ends: Stages, seed: str) -> dict[str, Stage]:
    """What is trained on the clean images, one for each learning rate."""
    dataset, found = networks.dataset, {}
    for rate in cfg["repair"]["budget"]["rates"] if method["trains"] != "nothing" else []:
        config: dict[str, Any] = {
            **networks.model,
            "augmentation": cfg["dataset"]["augmentation"],
            "material": recipes.material(cfg),
            "seed": seed,
        }
        optimizer = {**method["optimizer"], "lr": rate}
        if method["trains"] == "path":
            joined(cfg["curve"], ends, "curve")
            if cfg["curve"]["fits"] == "nothing":
                raise InputError(
                    "repair=path_point fits a path: take a curve with a free control point, such as curve=bezier"
                )
            recipes.refuse_start(cfg, "repair=path_point")
            recipe = recipes.budget(cfg, {}, optimizer)
            config |= {
                "curve": recipes.without(cfg["curve"], "joins", "fits"),
                "transform": cfg["transform"],
                "free": "inner",
                "recipe": {
                    **recipes.without(recipe, "module"),
                    "weight_decay": method["weight_decay"],
                    "ema_decay": method["ema_decay"],
                    "watched_images": cfg["fit"]["watched_images"],
                    **recipes.places(cfg),
                },
            }
            fitted = node("connect", f"repair-path {rate:g}", config, **roles(ends), **dataset)
            found[f"{RATE}{rate:g}"] = fitted
            found[f"{PLACE}{rate:g}"] = place(
                cfg, f"repair-path {rate:g}", method["grid"], fitted, ends, dataset, recipes.material(cfg)
            )
        else:
            recipe = recipes.budget(cfg, method["module"], optimizer)
            init = {"init": next(iter(ends.values()))} if method["begin"] == "start" else {}
            config["recipe"] = {**recipe, "min_accuracy_over_chance": 0.0}
            found[f"{RATE}{rate:g}"] = node("train", f"repair-train {rate:g}", config, **init, **dataset)
    return found


def _check(cfg: Config) -> None:
    """Raises InputError for a repair that cannot be planned."""
    method, rates = cfg["repair"], cfg["repair"]["budget"]["rates"]
    recipes.one_of("repair.trains", method["trains"], ("path", "network", "nothing"))
    recipes.one_of("repair.begin", method.get("begin", "start"), ("start", "random"))
    if not rates or not all(isinstance(rate, int | float) and rate > 0 for rate in rates):
        raise InputError(f"repair.budget.rates={rates} must be a list of learning rates, each above 0")
    if len({f"{rate:g}" for rate in rates}) < len(rates):
        raise InputError(f"repair.budget.rates={rates} names a learning rate twice")
    if not cfg["repair"]["budget"]["held_out"]:
        raise InputError("repair.budget.held_out=0 leaves no image to choose the repair with: 0.2 holds out a fifth")

"""The repair of the start network, and its card."""

from __future__ import annotations

from mcr import identity
from mcr.errors import InputError
from mcr.plans import recipes
from mcr.plans.node import Config, Stages, node
from mcr.plans.paths import trigger
from mcr.store import Stage


def card(cfg: Config, title: str, model: Config, plain: Stages, ends: Stages, materials: Stages) -> Stage:
    """The repair and its card. What chooses the repair knows neither the trigger nor the test images."""
    method = cfg["repair"]
    _check(cfg)
    augmentation = cfg["dataset"]["augmentation"]
    trained = {}
    for rate in cfg["defense"]["rates"] if method["trains"] != "nothing" else []:
        seed = identity.key({"replicate": cfg["replicate"], "use": "repair"})
        config = {**model, "augmentation": augmentation, "material": recipes.material(cfg), "seed": seed}
        if method["trains"] == "path":
            recipe = recipes.defense(cfg, method["optimizer"], rate, weight_decay=method["weight_decay"])
            config |= {"curve": cfg["curve"], "recipe": recipe}
            trained[f"rate {rate:g}"] = node("connect", f"repair-path {rate:g}", config, **ends, **materials)
        else:
            config["recipe"] = recipes.defense(cfg, method["optimizer"], rate, **method["module"])
            init = {"init": ends["start"]} if method["begin"] == "start" else {}
            trained[f"rate {rate:g}"] = node("train", f"repair-train {rate:g}", config, **init, **materials)
    config = {
        **model,
        "augmentation": augmentation,
        "material": recipes.material(cfg),
        "repair": recipes.without(method, "name", "trains", "begin", "module", "optimizer", "weight_decay"),
        **({"curve": cfg["curve"]} if method["trains"] == "path" else {}),
        "selection": cfg["selection"],
        "batch_size": cfg["evaluation"]["batch_size"],
        "memory_format": cfg["evaluation"]["memory_format"],
        "batchnorm_images": cfg["evaluation"]["batchnorm_images"],
        "floor": cfg["training"]["floor"],
        "seed": identity.key({"replicate": cfg["replicate"], "use": "repair"}),
    }
    # Only a file that a user gave has names and types of its own, which the cleaned file is to have again.
    file = {"file": plain["start"]} if plain["start"].name == "load" else {}
    asked = {name: config[name] for name in (*model, "material", "batch_size", "memory_format", "floor", "seed")}
    # First of the needs, so that networks that only guess are refused before anything is trained.
    vet = node("vet", "vet", asked, **ends, **materials)
    repair = node("repair", "repair", config, vet=vet, **file, **trained, **ends, **materials)
    measured = {
        "method": method["name"],
        "replicate": cfg["replicate"],
        "test_images": cfg["evaluation"]["test_images"],
        "card": cfg["card"],
        "report": cfg["report"],
        "claims": cfg["claims"],
        "title": title,
        **trigger(cfg),
    }
    return node("card", "card", measured, repair=repair, given=plain["start"], **file, **trained, **ends, **materials)


def _check(cfg: Config) -> None:
    """Raises InputError for a repair that cannot be planned."""
    method, rates = cfg["repair"], cfg["defense"]["rates"]
    if method["trains"] not in ("path", "network", "nothing") or method.get("begin", "start") not in (
        "start",
        "random",
    ):
        raise InputError("repair.trains must be path, network or nothing, repair.begin start or random")
    if not rates or not all(isinstance(rate, int | float) and rate > 0 for rate in rates):
        raise InputError(f"defense.rates={rates} must be a list of learning rates, each above 0")
    if len({f"{rate:g}" for rate in rates}) < len(rates):
        raise InputError(f"defense.rates={rates} names a learning rate twice")

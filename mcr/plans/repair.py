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

RATE, PLACE = "rate ", "place "  # the roles of what a repair trained with a learning rate, and of its places
REFERENCE = "reference"  # the role of the network that knows the clean images alone
# Of a repair's configuration: how candidates are trained, which the stage that chooses one does not read.
TRAINED = (
    *("name", "trains", "begin", "shown", "module", "objective", "optimizer", "rates", "weight_decay", "ema_decay"),
    "budget",
)
# Probes whose shares stand on a card, where they are asked.
CARD = ("test", "attack", "recovered", "injection", "restored")


def card(cfg: Config, title: str, networks: Networks, ends: Stages, trainings: Stages) -> Stage:
    """The repair and its card. What chooses the repair knows neither the trigger nor the test images.

    Args:
        cfg: The whole configuration.
        title: What the card calls this run.
        networks: Makes the untampered network; gives the model, the dataset's stages and the names.
        ends: Name to stage of the given networks; the first is repaired.
        trainings: Of these, by role: the card says which of them ended early.

    Raises:
        InputError: For a repair, a reference or the name of a signal that cannot be planned.
    """
    methods, dataset, model = members(cfg["repair"]), networks.dataset, networks.model
    for name, method in methods.items():
        _check(cfg, f"repair {name}", f"rates of repair {name} (repair.budget.rates)", method)
    seed = identity.key({"replicate": cfg["replicate"], "use": "repair"})
    material = recipes.material(cfg)
    trained: dict[str, Stage] = {}
    for name, method in methods.items():
        trained |= _trained(cfg, name, method, networks, ends, seed)
    reference = _reference(cfg, networks, ends, seed)
    part, suspicion = cfg["evaluation"], cfg["suspicion"]
    unknown = [name for name in cfg["card"]["transfer"] if name not in suspicion["signals"]]
    if unknown and suspicion["signals"]:
        raise InputError(f"card.transfer={unknown} must be of suspicion.signals: {', '.join(suspicion['signals'])}")
    config = {
        **model,
        "ends": list(ends),
        "augmentation": cfg["dataset"]["augmentation"],
        "material": material,
        "repairs": {name: recipes.without(method, *TRAINED) for name, method in methods.items()},
        "suspicion": {key: suspicion[key] for key in ("signals", "images", "least_contrast")},
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
    needs = {**file, **trained, **reference, **roles(ends), **dataset}
    choose = node("choose", "choose", config, precheck=precheck, **needs)
    made: dict[str, Stage] = {"choose": choose}
    if cfg["repair"]["budget"]["taken"] == "refitted":
        whole = {**config, "material": {**material, "held_out": 0}}
        made["refit"] = node("refit", "refit", whole, choose=choose, **needs)
    probes = {
        name: {
            "probe": recipes.without(probe, "data", "images", "at", "along"),
            **{k: probe[k] for k in ("data", "images")},
        }
        for name, probe in asked(cfg, ends).items()
        if name in CARD
    }
    measured = {
        "method": cfg["repair"]["name"],
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
    return node("card", "card", measured, precheck=precheck, untampered=untampered, **made, **trainings, **needs)


def members(repair: Config) -> dict[str, Config]:
    """Name to repair, of all that give candidates: the members of a portfolio, or the one repair itself.

    Raises InputError for a portfolio without any.
    """
    if "trains" in repair:
        return {repair["name"]: repair}
    if not repair.get("members"):  # Hydra leaves no key behind when the last one is taken away
        raise InputError(f"repair={repair['name']} has no member: +repair@repair.members.NAME=OPTION adds one")
    return dict(repair["members"])


def _reference(cfg: Config, networks: Networks, ends: Stages, seed: str) -> Stages:
    """The network that signals are compared with, where there are any: it saw the clean images alone."""
    part = cfg["suspicion"]
    if not part["signals"]:
        return {}
    method = {**part["reference"], "rates": [part["rate"]]}
    recipes.one_of("suspicion.reference.trains", method["trains"], ("network",))
    _check(cfg, "suspicion.reference", "suspicion.rate", method)
    # Else it might hold what the suspects hide, and an estimate of nothing left would be read off it.
    recipes.one_of("suspicion.reference.begin", method["begin"], ("random",))
    recipes.one_of("suspicion.reference.shown", method["shown"], ("images",))
    (found,) = _trained(cfg, method["name"], method, networks, ends, seed).values()
    return {REFERENCE: found}


def _trained(cfg: Config, name: str, method: Config, networks: Networks, ends: Stages, seed: str) -> Stages:
    """What a repair trains on the clean images, once for each learning rate."""
    dataset, found = networks.dataset, {}
    for rate in method["rates"] if method["trains"] != "nothing" else []:
        config: dict[str, Any] = {
            **networks.model,
            "augmentation": cfg["dataset"]["augmentation"],
            "material": recipes.material(cfg),
            "seed": seed,
        }
        optimizer = {**method["optimizer"], "lr": rate}
        label = f"repair-{name} {rate:g}"
        if method["trains"] == "path":
            joined(cfg["curve"], ends, "curve")
            if cfg["curve"]["fits"] == "nothing":
                raise InputError(
                    f"repair={name} fits a path: take a curve with a free control point, such as curve=bezier"
                )
            recipes.refuse_start(cfg, f"repair={name}")
            recipe = recipes.budget(cfg, {}, optimizer, method["objective"])
            config |= {
                "curve": recipes.without(cfg["curve"], "joins", "fits"),
                "transform": cfg["transform"],
                "free": "inner",
                **({"penalty": cfg["penalty"]} if cfg["penalty"] else {}),
                "recipe": {
                    **recipes.without(recipe, "module"),
                    "weight_decay": method["weight_decay"],
                    "ema_decay": method["ema_decay"],
                    "watched_images": cfg["fit"]["watched_images"],
                    **recipes.places(cfg),
                },
            }
            fitted = node("connect", label, config, **roles(ends), **dataset)
            found[f"{RATE}{name} {rate:g}"] = fitted
            found[f"{PLACE}{name} {rate:g}"] = place(
                cfg, label, method["grid"], fitted, ends, dataset, recipes.material(cfg)
            )
        else:
            recipe = recipes.budget(cfg, method["module"], optimizer, method["objective"])
            config["recipe"] = {**recipe, "min_accuracy_over_chance": 0.0}
            given = {"init": next(iter(ends.values()))} if method["begin"] == "start" else {}
            if method["shown"] == "networks":
                given |= roles(ends)
            found[f"{RATE}{name} {rate:g}"] = node("train", label, config, **given, **dataset)
    return found


def _check(cfg: Config, name: str, key: str, method: Config) -> None:
    """Raises InputError for a repair that cannot be planned: its name and the key of its rates are what a line says."""
    recipes.one_of(f"{name}: trains", method["trains"], ("path", "network", "nothing"))
    if method["trains"] == "network":
        recipes.one_of(f"{name}: begin", method["begin"], ("start", "random"))
        recipes.one_of(f"{name}: shown", method["shown"], ("images", "networks"))
    if method["trains"] != "nothing":
        rates = method["rates"]
        if not rates or not all(isinstance(rate, int | float) and rate > 0 for rate in rates):
            raise InputError(f"{key}: {rates} must be a list of learning rates, each above 0")
        if len({f"{rate:g}" for rate in rates}) < len(rates):
            raise InputError(f"{key}: {rates} names one twice: results are named by its first six digits")
    if not cfg["repair"]["budget"]["held_out"]:
        raise InputError("repair.budget.held_out=0 leaves no image to choose the repair with: 0.2 holds out a fifth")
    refuse_unwatched(cfg["repair"]["budget"])


def refuse_unwatched(budget: Config) -> None:
    """Raises InputError for a repair that is made on all images and would need others to be watched on."""
    if budget["taken"] == "refitted" and (budget["keep"] == "best" or budget["patience"]):
        raise InputError(
            "repair.budget.taken=refitted leaves no image that could say which epoch is best: "
            "repair.budget.keep=last and patience=0, or taken=chosen"
        )

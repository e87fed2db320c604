"""The first questions to networks that come from files or are to be repaired."""

from __future__ import annotations

from mcr.plans.measures import asked
from mcr.plans.networks import Networks
from mcr.plans.node import Config, Stages, node
from mcr.plans.subspaces import roles
from mcr.store import identity
from mcr.store.stage import Stage


def prechecked(
    cfg: Config, model: Config, seed: str, material: Config, floor: float, ends: Stages, dataset: Stages
) -> Stage:
    """The stage that asks them.

    Args:
        cfg: The whole configuration.
        model: Architecture and normalisation.
        seed: Of the network, whose weights are overwritten.
        material: The images.
        floor: Least accuracy of the better network, in multiples of chance.
        ends: The networks.
        dataset: The stages ``data`` and ``split``.
    """
    part = cfg["evaluation"]
    config = {
        **model,
        "material": material,
        "batch_size": part["batch_size"],
        "memory_format": part["memory_format"],
        "seed": seed,
        "ends": list(ends),
        "min_accuracy_over_chance": floor,
        **cfg["precheck"],
    }
    return node("precheck", "precheck", config, **roles(ends), **dataset)


def from_files(cfg: Config, model: Config, networks: Networks, ends: Stages, dataset: Stages) -> dict[str, Stage]:
    """The same of a run's networks from files, as they came, on its test images; nothing where there are none.

    None of them is refused: a path may begin at a network that only guesses.
    """
    names = [name for name in networks.names if cfg["endpoints"][name]["source"] == "load"]
    files = {name: networks.after(name, 0) for name in names}
    if not files or all(probe["data"] != "test" for probe in asked(cfg, ends).values()):
        return {}
    seed = identity.key({"replicate": cfg["replicate"], "use": "precheck"})
    material = {"split": "test", "images": "all", "held_out": 0}
    return {"precheck": prechecked(cfg, model, seed, material, 0, files, dataset)}

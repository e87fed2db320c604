"""One training of all ends: the corners of a subspace that is trained as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mcr.errors import InputError
from mcr.plans import recipes
from mcr.plans.node import Config, Stages, node
from mcr.plans.subspaces import roles
from mcr.store import identity
from mcr.store.stage import Stage

KIND = "together"  # the one kind of edit that makes all ends
# Of the images that they are trained on: the name of that subspace, and what people call it.
WHOLE = {"poisoned": ("attacker", "attacker's path"), "clean": ("whole", "trained together")}


def training(
    cfg: Config, model: Config, edits: Sequence[Config], ends: Stages, dataset: Stages, poison: Callable[[], Stage]
) -> Stage:
    """With a backdoor, from networks that have it (Zhao et al. 2020); or on clean images (Wortsman et al. 2021).

    Args:
        cfg: The whole configuration.
        model: Architecture and normalisation.
        edits: The edit of each network.
        ends: Where each begins, by name.
        dataset: The stages ``data`` and ``split``.
        poison: Gives the stage that poisons images.
    """
    first, *others = edits
    label = first["label"]
    if any(other != first for other in others):
        raise InputError(f"edit {label} is one training of all ends: give each network the same settings of it")
    images = recipes.one_of(f"the images of edit {label}", first["images"], tuple(WHOLE))
    if images == "poisoned" and cfg["poisoning"]["sets"] == "own":
        raise InputError(f"edit {label} is one training of all ends: poisoning.sets=own has no meaning for it")
    recipes.refuse_start(cfg, "what trains all ends together")
    part = recipes.without(first, "kind", "label", "images", "use")
    config = {
        **model,
        "curve": recipes.without(cfg["curve"], "joins", "fits"),
        "transform": cfg["transform"],
        "free": "all",
        **({"penalty": cfg["penalty"]} if cfg["penalty"] else {}),
        "augmentation": cfg["dataset"]["augmentation"],
        "material": {"split": "train", "images": "all", "held_out": 0},
        "recipe": recipes.training(cfg, part, cfg["objective"]) | recipes.places(cfg),
        "seed": identity.key({"replicate": cfg["replicate"], "use": first["use"]}),
    }
    poisoned = {"poison": poison()} if images == "poisoned" else {}
    return node("connect", WHOLE[images][1], config, **poisoned, **roles(ends), **dataset)


def whole(cfg: Config, edit: Config, trained: Stage) -> tuple[str, Stage] | None:
    """The name of the trained subspace and its stage; None where it is no more than the blend of its corners."""
    if edit["images"] == "clean" and cfg["curve"]["fits"] == "nothing":
        return None
    return WHOLE[edit["images"]][0], trained


def corners(trained: Stage, names: Sequence[str]) -> dict[str, Stage]:
    """Name to the network at its corner."""
    return {name: node("extract", f"extract {name}", {"end": index}, path=trained) for index, name in enumerate(names)}

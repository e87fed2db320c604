"""The recipe of a training that a user asks for by keywords: what is not said is as on the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from mcr.errors import InputError
from mcr.library.options import composed, section, word
from mcr.library.subspace import Subspace
from mcr.objectives.objective import Objective
from mcr.plans import recipes
from mcr.stages.declared import NetworkTraining, SubspaceTraining, validate
from mcr.store.build import build_tree

Optimizer = Callable[..., torch.optim.Optimizer]
FROM_CONFIG = "default"  # the option that conf/config.yaml chooses


def recipe_of(
    space: Subspace | None,
    objective: str | Objective,
    optimizer: object,
    schedule: object,
    settings: Mapping[str, Any],
    sampling: object,
) -> dict[str, Any]:
    """All that a training needs, in the form of the command line's recipes.

    Where an object was given, the recipe has the default option in its place, which is not used.
    """
    named = {"objective": objective, "optimizer": optimizer, "schedule": schedule, "sampling": sampling}
    words = [word(group, name) for group, name in named.items() if isinstance(name, str) and name != FROM_CONFIG]
    settings = dict(settings)
    if "lr" in settings:
        if not isinstance(optimizer, str):
            raise InputError("lr= is for a named optimizer: an object has its own")
        words.append(word("optimizer.lr", settings.pop("lr")))
    config = composed(*words)
    if space is not None:
        # The images are the caller's, and the points lie in memory as they were laid out when it was made.
        known = recipes.without(config["fit"], "split", "images", "memory_format")
    else:
        chosen = build_tree(recipes.attacked(config, config["objective"])) if isinstance(objective, str) else objective
        kind = "adversarial" if chosen.attacks else "standard"
        end = composed(*words, f"endpoint@endpoints.start={kind}")["endpoints"]["start"]
        known = {"steps": 0} | recipes.without(
            end, "source", "label", "images", "edits", "objective", "min_accuracy_over_chance"
        )
    known = section(known, settings)
    if "steps" in settings and "epochs" in settings:
        raise InputError("the budget is given in epochs= or in steps=, not in both")
    if space is None:
        known["min_accuracy_over_chance"] = 0.0  # refuse no network: the caller sees the accuracy
    else:
        known["sampling"] = config["sampling"]
        known["memory_format"] = "channels_last" if space.layout.channels_last else "contiguous"
    recipe = recipes.training(config, known, config["objective"])
    kind_of = NetworkTraining if space is None else SubspaceTraining
    validate(kind_of, "fit", recipe)
    return recipe

"""Repairing a network that its user does not trust, with a few clean images."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.library.data import Data, labelled
from mcr.library.fit import fit
from mcr.library.options import composed, option, section, word
from mcr.library.subspace import AS_THEY_ARE, Subspace, calibration
from mcr.plans import recipes
from mcr.plans.repair import TRAINED
from mcr.progress import bar
from mcr.repairs.bench import Bench, Trained, Walked
from mcr.repairs.held_out import HeldOutScore
from mcr.stages.artifacts import check_material
from mcr.store.build import build
from mcr.types import LabelledImages
from mcr.weightspace import locus
from mcr.weightspace.layout import Layout
from mcr.weightspace.survey import Survey

BUDGET = ("images", "held_out", "rates")  # of repair.budget: what is not a training's


@dataclass(frozen=True)
class Repaired:
    """A repair and what it was chosen from, by clean images alone.

    Attributes:
        network: The repaired one.
        chosen: The candidate that was taken: its learning rate and place, held-out accuracy, what it lost of the
            better network's, and the divergence of its answers from each network's.
        candidates: All of them.
        kept: Whether any keeps the accuracy; if not, the most accurate one was taken.
    """

    network: nn.Module
    chosen: Mapping[str, float]
    candidates: Sequence[Mapping[str, float]]
    kept: bool


def repair(
    networks: Sequence[nn.Module] | Mapping[str, nn.Module],
    clean: Data,
    method: str = "path_point",
    *,
    curve: str = "bezier",
    selection: str = "farthest",
    augmentation: Augmentation = AS_THEY_ARE,
    seed: int | str = 0,
    **settings: Any,
) -> Repaired:
    """Repair the first network with clean images: by a point of a path to a second one, or by training on them.

    Nothing is known of an attack. The networks that are given stay as they are.

    Args:
        networks: The one to be repaired first; a path needs a second one, maybe tampered with as well (Zhao et al.
            2020).
        clean: A few clean images, trained on and, a share of them, held out to choose with.
        method: Name of an option of the group ``repair``: "path_point", "finetune", "prune", "noise".
        curve: Of a path: name of an option of the group ``curve``.
        selection: Name of an option of the group ``selection``.
        augmentation: Of the images that are trained on.
        seed: Of everything that is drawn.
        **settings: Of ``repair.budget``: held_out, steps, batch_size, rates, keep, ...

    Raises:
        InputError: For a method that cannot be used with these networks or images, or a wrong setting.
    """
    config = composed(word("repair", method), word("curve", curve), word("selection", selection))
    plan = config["repair"]
    budget = section(config["repair"]["budget"], settings)
    ends = networks if isinstance(networks, Mapping) else dict(zip(("start", "end"), networks, strict=False))
    if len(ends) < (1 if plan["trains"] == "network" else 2):
        raise InputError(f"repair={method} needs a second network")
    if plan.get("begin") == "random":
        raise InputError(f"repair={method} begins with fresh weights, which only you can draw: mcr.fit a new network")
    fitted, held = _shared(labelled(clean), budget)
    evaluation = config["evaluation"]
    trained: dict[float, Trained] = {}
    for rate in budget["rates"] if plan["trains"] != "nothing" else ():
        common: dict[str, Any] = {"augmentation": augmentation, "seed": seed}
        common |= recipes.without(budget, *BUDGET, "schedule", "memory_format")
        if plan["trains"] == "path":
            walked = Subspace(ends, curve, fitted, augmentation=augmentation)
            decay = {name: plan[name] for name in ("weight_decay", "ema_decay")}
            fit(walked, fitted, lr=rate, **decay, **common)
            places = locus.places(walked.curve, plan["grid"], "repair.grid")
            with bar("places", len(places), "places") as progress:
                survey = Survey.of(walked, places, walked.names, progress.reach)
            trained[rate] = Walked(walked, survey.places, list(survey.statistics))
        else:
            tuned = copy.deepcopy(next(iter(ends.values())))
            fit(tuned, fitted, lr=rate, validation=held, module=plan["module"], **common)
            trained[rate] = tuned.state_dict()
    network = copy.deepcopy(next(iter(ends.values())))
    device = next(network.parameters()).device
    states = {name: dict(end.state_dict()) for name, end in ends.items()}
    layout = Layout.of(network, evaluation["memory_format"])
    images = calibration(fitted, augmentation, evaluation, device)
    bench = Bench(network, layout, states, trained, images, str(seed))
    held = LabelledImages(held.images.to(device), held.labels.to(device))
    batches = EvaluationBatches(held.images, held.labels, evaluation["batch_size"], evaluation["memory_format"])
    judge = HeldOutScore.of(bench, batches)
    rule = build(recipes.without(plan, *TRAINED))
    candidates = [{**candidate, **judge.score(one)} for candidate, one in rule.candidates(bench)]
    choice = option("selection", selection).choose(candidates)
    chosen = candidates[choice.index]
    return Repaired(copy.deepcopy(rule.rebuild(bench, chosen)).eval(), chosen, candidates, choice.kept)


def _shared(clean: LabelledImages, budget: Mapping[str, Any]) -> tuple[LabelledImages, LabelledImages]:
    """The images that are trained on, and those that are held out: the last ones."""
    material = {"split": "clean", "images": budget["images"], "held_out": budget["held_out"]}
    count, held = check_material(material, len(clean.labels))
    if not held:
        raise InputError("held_out=0 leaves no image to choose the repair with: 0.2 holds out a fifth")
    cut = count - held
    return (
        LabelledImages(clean.images[:cut], clean.labels[:cut]),
        LabelledImages(clean.images[cut:count], clean.labels[cut:count]),
    )

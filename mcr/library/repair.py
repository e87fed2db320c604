"""Repairing a network that its user does not trust, with a few clean images."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.library.data import Data, labelled
from mcr.library.fit import fit
from mcr.library.options import composed, option, section, word
from mcr.library.subspace import AS_THEY_ARE, Subspace, calibration
from mcr.numerics.seeding import seed_for
from mcr.plans import recipes
from mcr.plans.repair import TRAINED, members, refuse_unwatched
from mcr.progress import bar
from mcr.repairs.asked import Repair, asked
from mcr.repairs.bench import Bench, Trained, Walked
from mcr.repairs.held_out import HeldOutScore
from mcr.repairs.suspicion import Suspicion
from mcr.stages.artifacts import check_material
from mcr.store.build import build, build_tree
from mcr.types import LabelledImages
from mcr.weightspace import locus
from mcr.weightspace.layout import Layout
from mcr.weightspace.survey import Survey

BUDGET = ("images", "held_out", "rates", "taken")  # of repair.budget: what is not a training's


@dataclass(frozen=True)
class Repaired:
    """A repair and what it was chosen from, by clean images alone.

    Attributes:
        network: The repaired one.
        chosen: The candidate that was taken: the ``repair`` that gave it, its learning rate and place, held-out
            accuracy, what it lost of the better network's, the divergence of its answers from each network's, and
            ``estimated_success``, the share of a hidden attack that is estimated to be left.
        taken: What the signals say of ``network`` itself: by default, the chosen repair made once more on all images.
        candidates: All of them.
        kept: Whether any keeps the accuracy; if not, the most accurate one was taken.
        suspicion: Of each signal what it says of the first network and of one from scratch.
    """

    network: nn.Module
    chosen: Mapping[str, Any]
    taken: Mapping[str, Any]
    candidates: Sequence[Mapping[str, Any]]
    kept: bool
    suspicion: Mapping[str, Mapping[str, float | bool]]


def repair(
    networks: Sequence[nn.Module] | Mapping[str, nn.Module],
    clean: Data,
    method: str = "portfolio",
    *,
    curve: str = "bezier",
    selection: str = "estimated_success",
    augmentation: Augmentation = AS_THEY_ARE,
    fresh: nn.Module | None = None,
    seed: int | str = 0,
    **settings: Any,
) -> Repaired:
    """Repair the first network with clean images: by a point of a path to a second one, or by training on them.

    Nothing is known of an attack. The networks that are given stay as they are.

    Args:
        networks: The one to be repaired first; a path needs a second one, maybe tampered with as well (Zhao et al.
            2020).
        clean: A few clean images, trained on and, a share of them, held out to choose with.
        method: Name of an option of the group ``repair``: "portfolio", "path_point", "finetune", "prune", ...
        curve: Of a path: name of an option of the group ``curve``.
        selection: Name of an option of the group ``selection``.
        augmentation: Of the images that are trained on.
        fresh: A network of the same class with fresh weights, from which one is trained that can hold nothing hidden:
            signals are compared with it. Where none is given, every module of a copy draws its weights anew.
        seed: Of everything that is drawn.
        **settings: Of ``repair.budget``: held_out, taken, steps, batch_size, rates, keep, ...

    Raises:
        InputError: For a method that cannot be used with these networks or images, or a wrong setting.
    """
    config = composed(word("repair", method), word("curve", curve), word("selection", selection))
    budget = section(config["repair"]["budget"], settings)
    ends = networks if isinstance(networks, Mapping) else dict(zip(("start", "end"), networks, strict=False))
    methods = members(config["repair"])
    for name, plan in methods.items():
        if len(ends) < (1 if plan["trains"] == "network" else 2):
            raise InputError(f"repair={name} needs a second network")
    refuse_unwatched(budget)
    fitted, held = _shared(labelled(clean), budget)
    whole = LabelledImages(torch.cat([fitted.images, held.images]), torch.cat([fitted.labels, held.labels]))
    evaluation = config["evaluation"]
    first = next(iter(ends.values()))
    common: dict[str, Any] = {"augmentation": augmentation, "seed": seed}
    common |= recipes.without(budget, *BUDGET, "schedule", "memory_format")

    def tuned(plan: Mapping[str, Any], rate: float, fitted: LabelledImages) -> nn.Module:
        """A network trained as a repair says; validation decides nothing."""
        begun = _fresh(first, fresh, seed) if plan["begin"] == "random" else copy.deepcopy(first)
        shown = list(ends.values()) if plan["shown"] == "networks" else []
        objective = build_tree(plan["objective"])
        fit(
            begun,
            fitted,
            lr=rate,
            objective=objective,
            validation=held,
            module=plan["module"],
            suspects=shown,
            **common,
        )
        return begun

    def walked(plan: Mapping[str, Any], rate: float, fitted: LabelledImages) -> Walked:
        """A path fitted as a repair says, and BatchNorm's statistics at its places."""
        space = Subspace(ends, curve, fitted, augmentation=augmentation)
        decay = {name: plan[name] for name in ("weight_decay", "ema_decay")}
        fit(space, fitted, lr=rate, objective=build_tree(plan["objective"]), **decay, **common)
        places = locus.places(space.curve, plan["grid"], "repair.grid")
        with bar("places", len(places), "places") as progress:
            survey = Survey.of(space, places, space.names, progress.reach)
        return Walked(space, survey.places, list(survey.statistics))

    network = copy.deepcopy(first)
    device = next(network.parameters()).device
    states = {name: dict(end.state_dict()) for name, end in ends.items()}
    layout = Layout.of(network, evaluation["memory_format"])

    def benched(fitted: LabelledImages) -> Bench:
        return Bench(network, layout, states, {}, calibration(fitted, augmentation, evaluation, device), str(seed))

    def batches(*parts: LabelledImages) -> EvaluationBatches:
        shown, labels = (torch.cat([getattr(part, name) for part in parts]).to(device) for name in ("images", "labels"))
        return EvaluationBatches(shown, labels, evaluation["batch_size"], evaluation["memory_format"])

    judge = HeldOutScore.of(benched(fitted), batches(held))
    part = config["suspicion"]
    reference = tuned(part["reference"], part["rate"], fitted)
    few = batches(held, fitted)
    few = few.like(few.images[: part["images"]], few.labels[: part["images"]])
    signals = {name: build(signal) for name, signal in part["signals"].items()}
    suspects = [copy.deepcopy(end).eval() for end in ends.values()]
    suspicion = Suspicion.of(signals, suspects, reference, few, part["least_contrast"], str(seed))

    def made(plan: Mapping[str, Any], rates: Sequence[float], fitted: LabelledImages) -> tuple[Repair, Bench]:
        """A repair and what it works with, trained with each of the rates."""
        trained: dict[float, Trained] = {}
        for rate in rates:
            path = plan["trains"] == "path"
            trained[rate] = walked(plan, rate, fitted) if path else tuned(plan, rate, fitted).state_dict()
        return build(recipes.without(plan, *TRAINED)), replace(benched(fitted), trained=trained)

    rates = {name: budget["rates"] if plan["trains"] != "nothing" else [] for name, plan in methods.items()}
    repairs = {name: made(plan, rates[name], fitted) for name, plan in methods.items()}
    candidates = asked(repairs, judge, suspicion)
    choice = option("selection", selection).choose(candidates)
    chosen = candidates[choice.index]
    name = chosen["repair"]
    if budget["taken"] == "refitted":
        repairs[name] = made(methods[name], [rate for rate in rates[name] if rate == chosen["rate"]], whole)
    rule, bench = repairs[name]
    repaired = copy.deepcopy(rule.rebuild(bench, chosen)).eval()
    taken = suspicion.score(repaired) if budget["taken"] == "refitted" else chosen
    return Repaired(repaired, chosen, taken, candidates, choice.kept, suspicion.described)


def _fresh(network: nn.Module, given: nn.Module | None, seed: int | str) -> nn.Module:
    """A network with fresh weights: the given one, or a copy of which every module draws its own anew."""
    if given is not None:
        return copy.deepcopy(given)
    found = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "fresh weights"))
        for name, module in found.named_modules():
            own = list(module.parameters(recurse=False))
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
            elif own:
                raise InputError(
                    f"{name or type(module).__name__} has weights and no reset_parameters(): give fresh=, a network of "
                    "the same class with fresh weights"
                )
    return found


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

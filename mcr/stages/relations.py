"""Compare the points of a path with each other."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mcr.attacks.none import NoAttack
from mcr.build import build
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.evaluation.locus import grid
from mcr.evaluation.relations import Transfer, similarity, together, transfer
from mcr.evaluation.summary import standard_error
from mcr.progress import bar
from mcr.seeding import generator
from mcr.stages.artifacts import RELATIONS, read_spec, read_split, write_json
from mcr.stages.context import Context
from mcr.stages.evaluate import attackable_part
from mcr.stages.loggers import log_summary
from mcr.stages.route import Route, in_batches
from mcr.store import Stage
from mcr.types import Part


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """relations.json: transfer matrix, gradient similarities, the ensemble of all points; means and standard errors."""
    config, part = stage.config, stage.config["evaluation"]
    route = Route.of(config, inputs, context)
    t = grid(part["relations"]["grid"], "evaluation.relations.grid")
    test = read_split(inputs, "test", context.device_name, part["relations"]["images"])
    batches = in_batches(test, part)
    found: dict[str, Any] = {"t": t, "images": len(test.labels)}
    metrics: dict[str, dict[str, float]] = {}
    with bar(stage.label, 3, "questions") as progress:
        networks = [copy.deepcopy(route.place(value)) for value in t]
        samples = _samples(stage, inputs, test, context)
        similar = similarity(networks, samples)
        found["gradient_similarity"] = {
            name: {role: values.double().nanmean(1).tolist() for role, values in ends.items()}
            for name, ends in similar.items()
        }
        metrics["gradient_similarity"] = _similar(similar)
        progress.reach(1, "gradients")
        attack = build(part["attack"])
        if not isinstance(attack, NoAttack):
            seed, precision = part["seed"], part["attack_precision"]
            crossed = transfer(networks, batches, attack, lambda: generator(seed, "attack"), precision)
            found["transfer"] = {
                "loss": crossed.losses.double().mean(2).tolist(),
                "accuracy": crossed.hits.double().mean(2).tolist(),
            }
            metrics["transfer"] = _transferred(crossed, t)
            progress.reach(2, "transfer")
            ensemble = together(networks, batches, attack, generator(seed, "attack"), precision)
            metrics["ensemble"] = _ensemble(ensemble.clean_hits, ensemble.robust_losses, ensemble.robust_hits, crossed)
        progress.reach(3, "ensemble")
    write_json(folder / RELATIONS, {**found, "metrics": metrics})
    log_summary(stage, context, metrics)


def _samples(stage: Stage, inputs: dict[str, Path], test: Part, context: Context) -> dict[str, EvaluationBatches]:
    """Clean images and, where a backdoor is known, the attackable ones with and without their trigger; true labels."""
    part = stage.config["evaluation"]
    if "backdoor" not in stage.config:
        return {"clean": in_batches(test, part)}
    classes = len(read_spec(inputs["data"]).classes)
    every = attackable_part(stage.config, read_split(inputs, "test", context.device_name), classes)
    if not len(every.labels):
        raise InputError("no test image can be attacked: all are of the class that is aimed at, or none of the sources")
    clean = Part(every.images[: len(test.labels)], every.labels[: len(test.labels)])
    backdoor = build(stage.config["backdoor"])
    return {
        "clean": in_batches(clean, part),
        "triggered": in_batches(Part(backdoor.stamp(clean.images), clean.labels), part),
    }


def _similar(found: dict[str, dict[str, Tensor]]) -> dict[str, float]:
    """Means over inner points and both ends; where triggered images are known, how much less similar those are."""
    each = {name: torch.stack([ends["start"][1:-1], ends["end"][1:-1]]).double() for name, ends in found.items()}
    metrics = {name: float(values.nanmean()) for name, values in each.items()}
    if "triggered" in each:
        # The same images with and without trigger: paired, one difference an image.
        gap = (each["clean"] - each["triggered"]).nanmean((0, 1))
        kept = gap[~gap.isnan()].numpy()
        metrics |= {"gap": float(kept.mean()) if len(kept) else float("nan"), "gap_se": standard_error(kept)}
    return metrics


def _transferred(crossed: Transfer, t: list[float]) -> dict[str, float]:
    """How far an attack made elsewhere beats the white-box one, at the point where it does so most.

    ``advantage`` is the white-box robust accuracy less that under the best other point's images, ``advantage_se`` the
    standard error of the white-box number at that point. Above 0 by more than that, gradients are masked there.
    """
    accuracy = crossed.hits.double().mean(2)
    own = accuracy.diagonal()
    others = accuracy.clone().fill_diagonal_(torch.inf).min(0).values
    where = int((own - others).argmax())
    return {
        "advantage": float(own[where] - others[where]),
        "advantage_se": standard_error(crossed.hits[where, where].double().numpy()),
        "at": t[where],
        "mean_off_diagonal": float(accuracy[~torch.eye(len(own), dtype=torch.bool)].mean()),
    }


def _ensemble(clean: Tensor, losses: Tensor, hits: Tensor, crossed: Transfer) -> dict[str, float]:
    """The ensemble beside the best single point; ``gain`` is paired over images."""
    single = crossed.hits.diagonal(dim1=0, dim2=1).T.double()  # (T, N)
    best = int(single.mean(1).argmax())
    difference = (hits.double() - single[best]).numpy()
    return {
        "clean_accuracy": float(clean.double().mean()),
        "robust_loss": float(losses.double().mean()),
        "robust_accuracy": float(hits.double().mean()),
        "best_single": float(single[best].mean()),
        "gain": float(difference.mean()),
        "gain_se": standard_error(difference),
    }

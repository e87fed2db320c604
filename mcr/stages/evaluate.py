"""Measure a path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mcr.attacks.none import NoAttack
from mcr.backdoors.poisoning import attackable
from mcr.build import build
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.evaluation.bootstrap import correlations
from mcr.evaluation.locus import grid
from mcr.evaluation.path import Point, Questions, walk
from mcr.evaluation.summary import as_costs, summarize
from mcr.evaluation.table import PathTable, write_csv
from mcr.progress import bar
from mcr.stages.artifacts import (
    CURVATURE,
    ENDS,
    PER_IMAGE,
    SUMMARY,
    TABLE,
    read_spec,
    read_split,
    write_json,
)
from mcr.stages.context import Context
from mcr.stages.loggers import path_logger
from mcr.stages.route import Route, fitted, in_batches, route_precision
from mcr.stages.tamper import attacked
from mcr.store import Stage
from mcr.types import Part
from mcr.weightspace import files


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The table along t, the ends with their stored BatchNorm statistics, per-image values, the summary."""
    route = Route.of(stage.config, inputs, context)
    questions = _questions(stage, inputs, context)
    stored = []
    for state in route.ends:
        route.network.load_state_dict(state)
        stored.append(_means(questions.ask(route.network)))

    values = grid(stage.config["evaluation"]["grid"])
    found: list[Point] = []
    with bar(stage.label, len(values), "points") as progress, path_logger(stage, context) as logger:
        for point in walk(
            *(route.network, route.layout, route.curve, route.points, route.ends),
            *(values, questions, route.calibration),
        ):
            found.append(point)
            row = point.row()
            logger.point(row)
            robust = f"  robust {row['robust_loss']:.3f}" if "robust_loss" in row else ""
            progress.reach(len(found), f"t {point.t:.2f}  test loss {row['test_loss']:.3f}{robust}")
        table = PathTable(tuple(point.row() for point in found))
        per_image = {name: torch.stack([point.values[name] for point in found]) for name in found[0].values}
        summary = summarize(values, table.column("arc_length"), as_costs(per_image))
        related = _correlations(per_image)
        logger.finish(table, {**summary, **related})
    rows = [
        {"end": role, "batchnorm": kind, **means}
        for role, kept, refreshed in (("start", stored[0], found[0]), ("end", stored[1], found[-1]))
        for kind, means in (("stored", kept), ("refreshed", _means(refreshed.values)))
    ]
    table.write_csv(folder / TABLE)
    write_csv(folder / ENDS, rows)
    if questions.curved:
        write_csv(folder / CURVATURE, [_spread(point) for point in found])
    files.save(per_image, folder / PER_IMAGE)
    write_json(
        folder / SUMMARY,
        {
            "path_length": table.rows[-1]["arc_length"],
            "metrics": summary,
            "correlations": related,
            **({"curvature": _method(per_image)} if questions.curved else {}),
        },
    )


def _correlations(per_image: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Of the robust loss with the curvature and with the gradient's norm, over t."""
    names = ("input_eigenvalue", "input_gradient_norm")
    if "robust_loss" not in per_image:
        return {}
    return {
        f"robust_loss_and_{name}": correlations(per_image["robust_loss"].double().numpy(), values.double().numpy())
        for name, values in per_image.items()
        if name in names
    }


def _spread(point: Point) -> dict[str, float]:
    """How an eigenvalue is spread over images at one t."""
    values = point.values["input_eigenvalue"].double()
    parts = torch.quantile(values, torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64)).tolist()
    return {
        "t": point.t,
        "mean": float(values.mean()),
        **dict(zip(("q05", "q25", "median", "q75", "q95"), parts, strict=True)),
        "min": float(values.min()),
        "max": float(values.max()),
    }


def _method(per_image: Mapping[str, Tensor]) -> dict[str, Any]:
    """How the eigenvalues were found, and the largest residual where that was by iteration."""
    if "eigenvalue_residual" not in per_image:
        return {"method": "exact", "images": per_image["input_eigenvalue"].shape[1]}
    return {
        "method": "lanczos",
        "images": per_image["input_eigenvalue"].shape[1],
        "largest_residual": float(per_image["eigenvalue_residual"].max()),
    }


def _questions(stage: Stage, inputs: dict[str, Path], context: Context) -> Questions:
    config, part = stage.config, stage.config["evaluation"]

    def split(name: str, limit: int | str) -> EvaluationBatches:
        return in_batches(read_split(inputs, name, context.device_name, limit), part)

    test = read_split(inputs, "test", context.device_name, part["test_images"])
    return Questions(
        train=in_batches(fitted(config, inputs, context, part["train_images"]), part),
        test=in_batches(test, part),
        robust=split("test", part["robust_images"]),
        attack=build(part["attack"]),
        attack_precision=part["attack_precision"],
        precision=route_precision(part),
        curved=_curved(part, split),
        seed=part["seed"],
        hits={
            name: in_batches(images, part) for name, images in hits(config, inputs, test, context.device_name).items()
        },
    )


def _curved(part: Mapping[str, Any], split: Callable[[str, int | str], EvaluationBatches]) -> EvaluationBatches | None:
    """The images for the curvature: with an attack at most those attacked, whose perturbations it is compared with."""
    if not part["hessian_images"]:
        return None
    limits = [part["hessian_images"]]
    if not isinstance(build(part["attack"]), NoAttack):
        limits.append(part["robust_images"])
    numbers = [limit for limit in limits if limit != "all"]
    return split("test", min(numbers) if numbers else "all")


def hits(config: Mapping[str, Any], inputs: dict[str, Path], test: Part, device: str) -> dict[str, Part]:
    """Metric to images with the labels that would be a hit for it, as far as the tampering is known.

    Args:
        config: ``backdoor`` and ``sources`` where a trigger is known.
        inputs: Folders of the two ends, which hold what was injected, and of ``data``.
        test: Test images; those whose label is the attacker's aim already are left out.
        device: Where the images lie.
    """
    found = {}
    if "backdoor" in config:
        classes = len(read_spec(inputs["data"]).classes)
        found["attack_success"] = triggered(config, test, classes)
        # How often the attacker's label is given without any trigger: what a trigger has to beat.
        found["without_trigger"] = triggered(config, test, classes, stamped=False)
        if not len(found["attack_success"].labels):
            raise InputError("no test image is left for the attack's success: all are of the class that is aimed at")
    injected = attacked(inputs, device)
    if injected is not None:
        part, targets = injected
        found |= {"injection_success": Part(part.images, targets), "restored_accuracy": part}
    return found


def triggered(config: Mapping[str, Any], part: Part, classes: int, stamped: bool = True) -> Part:
    """The attackable images of a part, with the trigger or as they are, and the attacker's labels."""
    backdoor = build(config["backdoor"])
    chosen = attackable_part(config, part, classes)
    images = backdoor.stamp(chosen.images) if stamped else chosen.images
    return Part(images, backdoor.aim(chosen.labels, classes))


def attackable_part(config: Mapping[str, Any], part: Part, classes: int) -> Part:
    """The images whose label is not the attacker's aim already, of the classes that are attacked, with true labels."""
    chosen = attackable(part.labels, build(config["backdoor"]).aim(part.labels, classes), config["sources"])
    return Part(part.images[chosen], part.labels[chosen])


def _means(values: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(value.double().mean()) for name, value in values.items()}

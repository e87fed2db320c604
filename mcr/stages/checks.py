"""What can be refused before a stage is begun: values out of range, unknown targets, missing devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mcr import build
from mcr.backdoors.backdoor import check_share
from mcr.backdoors.poisoning import attackable
from mcr.datasets.augment import Augmentation
from mcr.datasets.split import split_indices
from mcr.errors import InputError
from mcr.evaluation.locus import grid
from mcr.evaluation.summary import summarize
from mcr.precision import PRECISIONS
from mcr.reports.claims import judge
from mcr.stages.artifacts import DataSpec, check_material, read_spec, spec_of
from mcr.stages.load import take
from mcr.stages.train import parts
from mcr.store import Stage, Store

FORMATS = {"png", "svg", "pdf"}
MEMORY_FORMATS = ("channels_last", "contiguous")
# What a card holds for each metric.
CARD_STATISTICS = dict.fromkeys(
    (
        *("start", "end", "untampered", "after", "after_se", "lowest", "highest", "repaired"),
        *("lost", "lost_to_untampered", "start_below_untampered"),
    ),
    0.0,
)
# What a path's summary will hold for each metric.
STATISTICS = summarize([0.0, 0.5, 1.0], [0.0, 1.0, 2.0], {"any": np.zeros((3, 2))})["any"]
# And what is known beside it of its curvature and its points together.
CORRELATION = dict.fromkeys(f"{kind}{side}" for kind in ("pearson", "spearman") for side in ("", "_low", "_high"))
BESIDE_STATISTICS = {
    "robust_loss_and_input_eigenvalue": dict.fromkeys(CORRELATION, 0.0),
    "robust_loss_and_input_gradient_norm": dict.fromkeys(CORRELATION, 0.0),
    "guard": dict.fromkeys(("advantage", "advantage_se", "t"), 0.0),
    "transfer": dict.fromkeys(("advantage", "advantage_se", "at", "mean_off_diagonal"), 0.0),
    "ensemble": dict.fromkeys(
        ("clean_accuracy", "robust_loss", "robust_accuracy", "best_single", "gain", "gain_se"), 0.0
    ),
    "gradient_similarity": dict.fromkeys(("clean", "triggered", "gap", "gap_se"), 0.0),
}


def check(stage: Stage) -> None:
    """Build the stage's objects that need no data. Raises InputError for the first that cannot be built."""
    config = stage.config
    if stage.name == "data":
        build.build({**config["dataset"], **stage.places})
    if "architecture" in config:
        build.check_arguments({key: value for key, value in config["architecture"].items() if key != "source"})
    if "augmentation" in config:
        Augmentation(**config["augmentation"])
    for group in ("curve", "backdoor", "injection", "selection", "repair"):
        if group in config:
            build.build(config[group])
    if "material" in config:
        _check_material(config["material"])
    if stage.name == "repair" and config.get("curve", {"points": 3}).get("points", 2) < 3:
        raise InputError("repair=path_point fits a path: take a curve with a free control point, such as curve=bezier")
    if stage.name == "repair" and not config["material"]["held_out"]:
        raise InputError("defense.held_out=0 leaves no image to choose the repair with: 0.2 holds out a fifth")
    if stage.name in ("report", "card"):
        _check_report(config["report"])
        for claim in config["claims"]:
            metric = claim["quantity"].partition(".")[0]
            known = CARD_STATISTICS if "repair" in claim else BESIDE_STATISTICS.get(metric, STATISTICS)
            if "against" in claim and "repair" not in claim:
                known = {name: value for name, value in known.items() if not name.endswith("_se")}
            judge(claim, {metric: known})
    if stage.name == "repair":
        _check_format(stage.label, config)
        for name in ("batch_size", "batchnorm_images"):
            _positive(f"evaluation.{name}", config[name], word="all" if name == "batchnorm_images" else "")
    if stage.name == "card":
        if config["card"]["reactivation"]["rate"] <= 0 or config["card"]["reactivation"]["images"] < 0:
            raise InputError("card.reactivation: rate must be above 0, images 0 (leaves the test out) or more")
        _positive("evaluation.test_images", config["test_images"], word="all")
        steps = config["card"]["reactivation"]["steps"]
        if not steps or min(steps) < 1:
            raise InputError(f"card.reactivation.steps={steps}: at least one number of steps, each at least 1")
    if "recipe" in config:
        _check_recipe(stage.label, config["recipe"])
    if "evaluation" in config:
        _check_evaluation(stage.label, config["evaluation"])


def check_with_data(missing: list[Stage], store: Store) -> None:
    """What can be checked with the data that are at hand: weights fit their network, triggers the images.

    So a file that does not fit, or a folder of images that cannot be read, is refused before anything is written.

    Raises:
        InputError: For the first that does not.
    """
    specs: dict[str, DataSpec | None] = {}
    files = any(stage.name == "load" for stage in missing)
    for stage in missing:
        config, data = stage.config, stage.needs.get("data")
        if "poisoning" in config:
            check_share("poisoning.ratio", config["poisoning"]["ratio"])
        demanding = [attack for attack in map(build.build, _attacks(config)) if attack.least_classes > 2]
        if data is None or not (demanding or stage.name == "load" or {"backdoor", "material"} & set(config)):
            continue
        if data.key not in specs:
            # A large folder is read twice for a user's files, which are to be refused at once, but not for less.
            specs[data.key] = _spec(data, store) if files or store.has(data) or not data.places else None
        spec = specs[data.key]
        if spec is None:
            continue
        for attack in demanding:
            if len(spec.classes) < attack.least_classes:
                name = type(attack).__name__
                raise InputError(
                    f"{name} is defined for {attack.least_classes} classes or more, the data have {len(spec.classes)}: "
                    "use attack=apgd_ce or attack=square"
                )
        if stage.name == "load":
            take(stage, spec)
        if "backdoor" in config:
            backdoor = build.build(config["backdoor"])
            backdoor.aim(torch.arange(len(spec.classes)), len(spec.classes))
            backdoor.stamp(torch.zeros(1, spec.channels, *spec.image_size, dtype=torch.uint8))
            sources = config["poisoning"]["sources"] if "poisoning" in config else config["sources"]
            attackable(torch.arange(len(spec.classes)), torch.arange(len(spec.classes)) + 1, sources)
        if "material" in config and "split" in stage.needs:
            owned = len(split_indices(spec.counts, stage.needs["split"].config)[config["material"]["split"]])
            check_material(config["material"], owned)


def _spec(data: Stage, store: Store) -> DataSpec | None:
    """The facts of the data; None where they may have to be downloaded first."""
    if store.has(data):
        return read_spec(store.folder(data))
    if data.places and "fingerprint" not in data.config["dataset"]:
        return None
    return spec_of(build.build({**data.config["dataset"], **data.places}).load())


def _check_material(material: dict) -> None:
    _positive("images", material["images"], word="all")
    if isinstance(material["images"], float):
        raise InputError(f"images={material['images']}: a whole number of images, or all")
    if not 0 <= material["held_out"] < 1:
        raise InputError(f"defense.held_out={material['held_out']} must lie between 0 and 1: a share of the images")


def _check_report(report: dict) -> None:
    unknown = set(report["formats"]) - FORMATS
    if unknown or "png" not in report["formats"]:
        allowed = ", ".join(sorted(FORMATS))
        raise InputError(f"report.formats={report['formats']}: any of {allowed}, png among them: report.md shows it")
    _positive("report.dpi", report["dpi"], word="")


def _check_recipe(label: str, recipe: dict) -> None:
    made = parts(recipe)
    if recipe["objective"].get("attack", {}).get("_target_", "").endswith(".NoAttack"):
        raise InputError(f"{label}: an adversarial objective needs an attack; attack=none has none")
    try:
        made["optimizer"]([torch.nn.Parameter(torch.zeros(1))])
    except (TypeError, ValueError) as error:
        raise InputError(f"{label}: optimizer: {error}") from None
    _check_format(label, recipe)
    for name in ("epochs", "steps", "batch_size"):
        if name in recipe:
            _positive(f"{label}: {name}", recipe[name], word="")
    if recipe["precision"] not in PRECISIONS:
        raise InputError(f"{label}: precision={recipe['precision']} must be {' or '.join(PRECISIONS)}")
    if recipe["optimizer"]["lr"] <= 0:
        raise InputError(f"{label}: the learning rate {recipe['optimizer']['lr']} must be above 0")
    if not 0 < recipe.get("share", 0.5) < 1:
        raise InputError(f"repair.module.share={recipe['share']} must lie between 0 and 1")
    if recipe.get("keep", "last") not in ("last", "best"):
        raise InputError(f"{label}: keep={recipe['keep']} must be last or best")
    if recipe.get("validation_images", 1) < 1:
        raise InputError(f"{label}: validation_images={recipe['validation_images']} must be at least 1")
    if recipe.get("patience", 0) < 0:
        raise InputError(f"{label}: patience={recipe['patience']} must be at least 0 epochs")
    if not 0 <= recipe.get("ema_decay", 0) < 1:
        raise InputError(f"{label}: ema_decay={recipe['ema_decay']} must lie in [0, 1)")


def _check_evaluation(label: str, part: Mapping[str, Any]) -> None:
    """What is asked along a path, or of some of its points."""
    _check_format(label, part)
    for name in ("train_images", "test_images", "robust_images", "batchnorm_images", "batch_size"):
        if name in part:
            _positive(f"evaluation.{name}", part[name], word="all")
    if "grid" in part:
        grid(part["grid"])
    if "attack" in part:
        build.build(part["attack"])
    for name in ("precision", "attack_precision"):
        if part.get(name, "fp32") not in PRECISIONS:
            raise InputError(f"evaluation.{name}={part[name]} must be {' or '.join(PRECISIONS)}")
    if part.get("hessian_images", "all") != "all" and part["hessian_images"] < 0:
        raise InputError(f"evaluation.hessian_images={part['hessian_images']} must be at least 0, or all")
    counts = {"evaluation.hessian_images": part.get("hessian_images")} | {
        f"evaluation.{name}.images": part[name]["images"] for name in ("relations", "guard") if name in part
    }
    for name, value in counts.items():
        if isinstance(value, float):
            raise InputError(f"{name}={value}: a whole number of images, or all")
    if "relations" in part:
        grid(part["relations"]["grid"], "evaluation.relations.grid")
        _positive("evaluation.relations.images", part["relations"]["images"], word="all")
    if "guard" in part:
        _positive("evaluation.guard.images", part["guard"]["images"], word="all")
        for attack in part["guard"]["attacks"].values():
            build.build(attack)


def _attacks(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The configurations of all attacks of a stage."""
    part, objective = config.get("evaluation", {}), config.get("recipe", {}).get("objective", {})
    found = [place["attack"] for place in (part, objective) if "attack" in place]
    return [*found, *part.get("guard", {"attacks": {}})["attacks"].values()]


def _check_format(label: str, recipe: Mapping[str, Any]) -> None:
    if recipe["memory_format"] not in MEMORY_FORMATS:
        raise InputError(f"{label}: memory_format={recipe['memory_format']} must be {' or '.join(MEMORY_FORMATS)}")


def _positive(name: str, value: int | str, word: str) -> None:
    if value == word:
        return
    if isinstance(value, str) or value < 1:
        raise InputError(f"{name}={value} must be at least 1" + (f", or {word}" if word else ""))

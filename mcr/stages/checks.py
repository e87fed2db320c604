"""What can be refused before a stage is begun: values out of range, unknown targets, missing devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mcr.backdoors.backdoor import check_share
from mcr.backdoors.poisoning import attackable
from mcr.datasets.augment import Augmentation
from mcr.datasets.split import split_indices
from mcr.errors import InputError
from mcr.evaluation.bootstrap import Bootstrap
from mcr.merges.judge import Judge, Score
from mcr.numerics.precision import ATTACK_PRECISIONS, PRECISIONS
from mcr.stages import claimable, model, recipes, suited, worst
from mcr.stages.artifacts import DataSpec, check_material, read_spec, spec_of
from mcr.stages.load import take
from mcr.store import build
from mcr.store.identity import numbers
from mcr.store.stage import Stage
from mcr.store.store import Store
from mcr.weightspace import locus

FORMATS = {"png", "svg", "pdf"}


def check(stage: Stage) -> None:
    """Build the stage's objects that need no data, and compare its recipe with what the stage declares.

    Raises:
        InputError: For the first that cannot be built, a key that nothing reads, a value of a wrong type or range.
    """
    try:
        _build(stage)
    except (TypeError, KeyError, AttributeError):
        # A value of a wrong type, which the declaration names better; if it does not, this is no user's mistake.
        recipes.check(stage.name, stage.label, numbers(stage.config))
        raise
    recipes.check(stage.name, stage.label, numbers(stage.config))


def _build(stage: Stage) -> None:
    config = stage.config
    if stage.name == "data":
        build.build({**config["dataset"], **stage.places})
    if "architecture" in config:
        build.locate_network(config["architecture"]["_target_"])
        build.check_arguments(config["architecture"])
    if "augmentation" in config:
        Augmentation(**config["augmentation"])
    for group in ("curve", "backdoor", "selection", "repair", "start", "transform"):
        if config.get(group):
            build.build(config[group])
    if stage.name == "pick":  # whether the rule goes with the subspace
        _picked(config)
    if stage.name == "merge" and len(_picked(stage.needs["pick"].config)) > 1:
        raise InputError(f"merge={config['merge']}: several networks are no single file; average, best_point are one")
    for group in ("edit", "probe"):
        if group in config:
            build.build_tree(config[group])
    if stage.name == "choose" and not {"margin", "standard_errors"} <= set(config["selection"]):
        raise InputError(
            "selection: a rule has a margin and standard_errors, as mcr.selection.choice.Margin: cards say them"
        )
    if stage.name in ("report", "card"):
        _check_formats(config["report"]["formats"])
    if stage.name == "report":
        Bootstrap(config["statistics"]["draws"], config["statistics"]["level"])
        for claim in config["claims"]:
            if "repair" not in claim:
                claimable.check_claim(claim, claimable.known(stage, claim["quantity"].partition(".")[0]))
    if stage.name == "place":
        locus.places(
            build.build(config["curve"]), config["at"], "repair.grid" if "repair" in stage.label else "evaluation.grid"
        )
    if stage.name == "measure":
        if worst.WORST in config:
            worst.check(stage)
        probe = config["probe"]
        precisions = ATTACK_PRECISIONS if "attack" in probe else PRECISIONS
        if "precision" in probe and probe["precision"] not in precisions:
            allowed = ", ".join(precisions[:-1]) + f" or {precisions[-1]}"
            raise InputError(f"probes.{config['name']}.precision={probe['precision']} must be {allowed}")
    if stage.name == "card":
        _check_card(stage)
    if "recipe" in config:
        _check_recipe(stage, config["recipe"])


def _picked(config: Mapping[str, Any]) -> list[torch.Tensor]:
    """What a merge picks where all places are equally good."""
    rule, curve = build.build(config["merge"]), build.build(config["curve"])
    return list(rule.pick(Judge(curve, lambda u: Score(0.0, 0.0))))


def _check_card(stage: Stage) -> None:
    for probe in stage.config["probes"].values():
        build.build_tree(probe["probe"])
    ends = stage.needs["choose"].config["ends"]
    for claim in stage.config["claims"]:
        if "repair" in claim:
            about = claim["quantity"].startswith("effect.")
            known = claimable.EFFECT if about else (*claimable.CARD_STATISTICS, *ends)
            claimable.check_claim(claim, dict.fromkeys(known, 0.0))


def check_quantity(key: str, quantity: str, goal: Stage) -> None:
    """Raises InputError for a number that the summary of a run will not hold.

    Args:
        key: Where it is asked for.
        quantity: As metric.statistic: "robust_loss.interior", "attack_success.after".
        goal: What the run ends with.
    """
    metric, _, statistic = quantity.partition(".")
    known = claimable.of_goal(goal)
    if not known:
        raise InputError(f"{key}={quantity}: the verb {goal.name} measures nothing; report and repair do")
    if metric not in known:
        raise InputError(f"{key}={quantity}: this run does not measure {metric}; {build.nearest(metric, list(known))}")
    if statistic not in known[metric]:
        raise InputError(f"{key}={quantity}: {metric} has no {statistic}: {', '.join(known[metric])}")


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
            part = config["poisoning"]
            check_share("poisoning.ratio", part["ratio"])
            if part["cover"] and part["labels"] == "dirty":
                check_share("poisoning: ratio, and cover from the same images, together", part["ratio"] + part["cover"])
        demanding = [attack for attack in map(build.build, _attacks(config)) if attack.least_classes > 2]
        backdoors, demands = _backdoors(config), suited.demanding(config)
        if data is None or not (demanding or stage.name == "load" or backdoors or demands or "material" in config):
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
        if demands:
            suited.refuse_unsuited(demands, stage, spec)
        for chosen, sources in backdoors:
            backdoor = build.build(chosen)
            backdoor.aim(torch.arange(len(spec.classes)), len(spec.classes))
            black = torch.zeros(1, spec.channels, *spec.image_size, dtype=torch.uint8)
            backdoor.plant(black, torch.tensor([0])) if "poisoning" in config else backdoor.stamp(black)
            labels = torch.tensor([label for label in range(len(spec.classes)) if label not in spec.empty])
            attackable(labels, labels + 1, sources)
            for source in [] if isinstance(sources, str) else sources:
                if source not in labels:
                    raise InputError(f"poisoning.sources={sources}: there is no image of class {source}")
        if "augmentation" in config and config["augmentation"]["padding"] > min(spec.image_size):
            raise InputError(
                f"dataset.augmentation.padding={config['augmentation']['padding']}: the images have "
                f"{min(spec.image_size)} pixels, and a crop would lie outside of them"
            )
        if config.get("recipe", {}).get("batch_size") == 1:
            model.refuse_single(config, spec, stage.config["seed"])
        for material in (config[name] for name in ("material", "trusted") if name in config and "split" in stage.needs):
            owned = len(split_indices(spec.counts, stage.needs["split"].config)[material["split"]])
            check_material(material, owned)


def _spec(data: Stage, store: Store) -> DataSpec | None:
    """The facts of the data; None where they may have to be downloaded first."""
    if store.has(data, contents=True):
        return read_spec(store.folder(data))
    if data.places and "fingerprint" not in data.config["dataset"]:
        return None
    return spec_of(build.build({**data.config["dataset"], **data.places}).load())


def _check_formats(formats: list[str]) -> None:
    if set(formats) - FORMATS or "png" not in formats:
        allowed = ", ".join(sorted(FORMATS))
        raise InputError(f"report.formats={formats}: any of {allowed}, png among them: report.md shows it")


def _check_recipe(stage: Stage, recipe: dict) -> None:
    # Lightning takes seconds to load, which a command that finds all trainings in the store does without.
    from mcr.stages.train import parts
    from mcr.training.coupled import refuse_coupled
    from mcr.training.watch import Collapse

    made = parts(recipe)
    if recipe["batch_size"] < recipe["processes"]:
        size, count = recipe["batch_size"], recipe["processes"]
        raise InputError(f"{stage.label}: batch_size={size} has no image for each of {count} processes")
    Collapse(**recipe["watch"])
    try:
        made["optimizer"]([torch.nn.Parameter(torch.zeros(1, 1))])
        if stage.name == "connect":
            sampler, curve = build.build_tree(recipe["sampling"]), build.build(stage.config["curve"])
            sampler.begin(curve, torch.Generator())
            refuse_coupled(made["optimizer"])  # before its ends are trained
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(f"{stage.label}: optimizer: {error}") from None
    module = recipe.get("module", {})
    given = stage.config.get("trusted", {}).get("shown") == "apart"
    if module and given != ("trusted" in build.parameters(module["_target_"])):
        why = f"and {module['_target_']} {'does not' if given else 'needs them'}"
        raise InputError(f"{stage.label}: trusted images shown apart (trusted.shown) are for what takes them, {why}")
    if not 0 < module.get("share", 0.5) < 1:
        raise InputError(f"repair.module.share={module['share']} must lie between 0 and 1")
    if module.get("validation_images", 1) < 1:
        raise InputError(f"{stage.label}: validation_images={module['validation_images']} must be at least 1")
    if not 0 <= module.get("ema_decay", 0) < 1:
        raise InputError(f"{stage.label}: ema_decay={module['ema_decay']} must lie in [0, 1)")


def _attacks(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The configurations of all attacks of a stage."""
    places = (config.get("probe", {}), config.get("recipe", {}).get("objective", {}))
    found = [place["attack"] for place in places if "attack" in place]
    return [*found, *config.get("probe", {}).get("attacks", {}).values()]


def _backdoors(config: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], Any]]:
    """The configurations of all triggers of a stage, with the classes that are attacked."""
    probe = config.get("probe", {})
    found = [(probe["backdoor"], probe["sources"])] if "backdoor" in probe else []
    if config.get("backdoor"):
        found.append(
            (config["backdoor"], config["poisoning"]["sources"] if "poisoning" in config else config["sources"])
        )
    return found

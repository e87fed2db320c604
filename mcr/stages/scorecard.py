"""What every network on a repair card is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.metric import Metric
from mcr.numerics.statistics import standard_error
from mcr.probes.divergence import log_probabilities
from mcr.probes.probe import Probe
from mcr.reports import cards
from mcr.stages.artifacts import SPLIT_SUMMARY, read_material, read_split
from mcr.stages.context import Context
from mcr.stages.injected import injected_images
from mcr.store.build import build_tree
from mcr.types import LabelledImages

CLEAN = Metric("clean_accuracy", "share", "higher", "accuracy")


@dataclass(frozen=True)
class Answers:
    """One network's answers: predictions on clean images (N,), and per-image values of each metric."""

    predictions: Tensor
    values: dict[str, Tensor]


@dataclass(frozen=True)
class Scorecard:
    """What a network is asked for the card: the shares that the run's probes measure.

    Attributes:
        source: What the clean images are.
        chose: Whether they have chosen the repair, too.
        clean: The clean images in batches.
        probes: Name to probe and its images.
    """

    source: str
    chose: bool
    clean: EvaluationBatches
    probes: Mapping[str, tuple[Probe, EvaluationBatches]]

    @classmethod
    def of(
        cls, config: Mapping[str, Any], recipe: Mapping[str, Any], inputs: dict[str, Path], context: Context
    ) -> Scorecard:
        """On test images where there are any, else on the held-out clean images.

        Args:
            config: Of the card.
            recipe: Of the choice.
            inputs: Folders of data, split and the ends.
            context: Names the device.
        """
        counts = json.loads((inputs["split"] / SPLIT_SUMMARY).read_text(encoding="utf-8"))
        limit = config["probes"].get("test", {"images": "all"})["images"]
        if counts["test"]:
            part, source = read_split(inputs, "test", context.device_name, limit), "test images"
        else:
            _, part = read_material(inputs, recipe["material"], context.device_name)
            source = "the held-out clean images, which also chose the repair"

        def batches(images: LabelledImages) -> EvaluationBatches:
            return EvaluationBatches(images.images, images.labels, recipe["batch_size"], recipe["memory_format"])

        asked = {}
        for name, chosen in config["probes"].items():
            kind = chosen["data"]
            data = part if kind == "test" else injected_images(inputs, context.device_name, kind)
            if name != "test" and data is not None:
                asked[name] = (build_tree(chosen["probe"]), batches(data))
        return cls(source, not counts["test"], batches(part), asked)

    @property
    def labels(self) -> Tensor:
        """Of the clean images (N,)."""
        return self.clean.labels.cpu()

    @property
    def metrics(self) -> dict[str, Metric]:
        """Name to what it is, of all shares that are asked."""
        found = [metric.of(name) for name, (probe, _) in self.probes.items() for metric in probe.metrics]
        return {metric.name: metric for metric in (CLEAN, *found)}

    def ask(self, network: nn.Module) -> Answers:
        """Everything."""
        predictions = log_probabilities(network, self.clean).argmax(1)
        values = {CLEAN.name: (predictions == self.labels).double()}
        for name, (probe, data) in self.probes.items():
            answers = probe(network, data, torch.Generator())
            values |= {f"{name}_{metric}": value.double() for metric, value in answers.items()}
        return Answers(predictions, values)

    def per_class(self, answers: Mapping[str, Answers], classes: tuple[str, ...]) -> dict[str, dict[str, float]]:
        """Class name to network to accuracy, for the classes that the images have."""
        return {
            name: {who: float(given.values[CLEAN.name][mask].mean()) for who, given in answers.items()}
            for name, mask in self._members(classes).items()
        }

    def class_counts(self, classes: tuple[str, ...]) -> dict[str, int]:
        """Class name to number of clean images, for the classes that the images have."""
        return {name: int(mask.sum()) for name, mask in self._members(classes).items()}

    def _members(self, classes: tuple[str, ...]) -> dict[str, Tensor]:
        chosen = {name: self.labels == index for index, name in enumerate(classes)}
        return {name: mask for name, mask in chosen.items() if mask.any()}


def measured(
    answers: Mapping[str, Answers],
    rows: Sequence[Mapping[str, Any]],
    ends: Sequence[str],
    repaired: Mapping[str, float],
) -> dict[str, dict[str, float]]:
    """Metric to network to its mean, and its range over the candidates; what the repair lost; standard errors.

    A mean that is not finite is refused: no card can be written about it.

    Under "candidates", the share of them that a known attack would call repaired; under "effect", see ``effect``.

    Args:
        answers: Of each network.
        rows: Candidates.
        ends: Names of the given networks, the repaired one first.
        repaired: ``accuracy``, the least share of the first network's, and ``success``, the most of the attack's.
    """
    found = {
        metric: {who: float(given.values[metric].mean()) for who, given in answers.items()}
        for metric in answers["after"].values
    }
    for who, values in [*found.items(), *((f"candidate {cards.candidate(row)}", row) for row in rows)]:
        wrong = [name for name, value in values.items() if isinstance(value, float) and not isfinite(value)]
        if wrong:
            raise InputError(f"card: {wrong[0]} of {who} is not finite; lower repair.budget.rates, or look at the ends")
    for metric, values in found.items():
        values["after_se"] = standard_error(answers["after"].values[metric].numpy())
        seen = [row[metric] for row in rows]
        values |= {"lowest": min(seen), "highest": max(seen)}
    clean, first = found["clean_accuracy"], ends[0]
    clean["lost"] = max(clean[name] for name in ends) - clean["after"]
    if "untampered" in clean:
        clean["lost_to_untampered"] = clean["untampered"] - clean["after"]
        clean["start_below_untampered"] = clean["untampered"] - clean[first]
    attack = next((name for name in ("attack_success", "injection_success") if name in found), None)
    if attack is not None:
        good = [
            row["clean_accuracy"] >= repaired["accuracy"] * clean[first] and row[attack] <= repaired["success"]
            for row in rows
        ]
        found["candidates"] = {"repaired": sum(good) / len(good)}
    found["effect"] = effect(found, first)
    return found


def effect(metrics: Mapping[str, Mapping[str, float]], first: str) -> dict[str, float]:
    """What a repair did to the first network: accuracy lost, and where an attack is known, success taken and the DER.

    The defence effectiveness rating (1 + max(0, success taken) - max(0, accuracy lost)) / 2 (Zhu et al. 2023) gives
    half a point for a point of accuracy: it is never read without what was lost.
    """
    clean = metrics["clean_accuracy"]
    lost = clean[first] - clean["after"]
    attack = next((metrics[name] for name in ("attack_success", "injection_success") if name in metrics), None)
    if attack is None:
        return {"lost": lost}
    taken = attack[first] - attack["after"]
    return {"lost": lost, "taken": taken, "der": (1 + max(0.0, taken) - max(0.0, lost)) / 2}

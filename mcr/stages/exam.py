"""What every network on a repair card is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mcr.datasets.batches import EvaluationBatches
from mcr.probes.divergence import log_probabilities
from mcr.probes.risk import risk
from mcr.stages.artifacts import SPLIT_SUMMARY, read_material, read_split
from mcr.stages.evaluate import hits
from mcr.types import Part


@dataclass(frozen=True)
class Answers:
    """One network's answers: predictions on clean images (N,), and per-image hits of each metric."""

    predictions: Tensor
    hits: dict[str, Tensor]


@dataclass(frozen=True)
class Exam:
    """What a network is asked for the card.

    Attributes:
        source: What the clean images are.
        test: Labels of the clean images (N,).
        clean: The images in batches.
        hits: Metric to images with the labels that would be a hit.
    """

    source: str
    test: Tensor
    clean: EvaluationBatches
    hits: Mapping[str, EvaluationBatches]

    @classmethod
    def of(cls, config: Mapping[str, Any], recipe: Mapping[str, Any], inputs: dict[str, Path], device: str) -> Exam:
        """Test images where there are any, else the held-out clean images."""
        counts = json.loads((inputs["split"] / SPLIT_SUMMARY).read_text())
        if counts["test"]:
            part, source = read_split(inputs, "test", device, config["test_images"]), "test images"
        else:
            _, part = read_material(inputs, recipe["material"], device)
            source = "the held-out clean images, which also chose the repair"

        def batches(images: Part) -> EvaluationBatches:
            return EvaluationBatches(images.images, images.labels, recipe["batch_size"], recipe["memory_format"])

        asked = hits(config, inputs, part, device)
        return cls(source, part.labels.cpu(), batches(part), {name: batches(images) for name, images in asked.items()})

    def ask(self, network: nn.Module) -> Answers:
        """Everything."""
        predictions = log_probabilities(network, self.clean).argmax(1)
        found = {"clean_accuracy": (predictions == self.test).double()}
        found |= {name: risk(network, batches)[1].double() for name, batches in self.hits.items()}
        return Answers(predictions, found)

    def per_class(self, answers: Mapping[str, Answers], classes: tuple[str, ...]) -> dict[str, dict[str, float]]:
        """Class name to network to accuracy, for the classes that the images have."""
        chosen = {name: self.test == number for number, name in enumerate(classes)}
        return {
            name: {who: float(given.hits["clean_accuracy"][mask].mean()) for who, given in answers.items()}
            for name, mask in chosen.items()
            if mask.any()
        }

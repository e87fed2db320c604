"""A fitted path, ready to be walked: the network, its control points, its ends, the images for BatchNorm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from mcr.architectures.normalization import Normalized
from mcr.build import build
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import EvaluationBatches, augmented_batches
from mcr.evaluation.path import State, place
from mcr.precision import Precision
from mcr.stages import model
from mcr.stages.artifacts import read_material, read_network, read_spec, read_split
from mcr.stages.connect import read_control
from mcr.stages.context import Context
from mcr.types import Part
from mcr.weightspace.layout import Layout

CALIBRATION_BATCH = 512  # images at a time, at most


@dataclass(frozen=True)
class Route:
    """What a stage needs to stand at any t of a path.

    Attributes:
        network: Moved through weight space.
        layout: Of its parameters.
        curve: Has ``coefficients(t)``.
        points: Control points, K vectors (P,).
        ends: State dicts of the two ends.
        calibration: Gives the images for BatchNorm, anew at each call.
        precision: Of the passes that estimate BatchNorm's statistics.
    """

    network: Normalized
    layout: Layout
    curve: Any
    points: list[Tensor]
    ends: tuple[State, State]
    calibration: Callable[[], Iterator[Tensor]]
    precision: Precision

    @classmethod
    def of(cls, config: Mapping[str, Any], inputs: Mapping[str, Path], context: Context) -> Route:
        """The path that lies in ``inputs``, on the run's device.

        Args:
            config: A stage's, with ``curve``, ``augmentation`` and the evaluation's formats.
            inputs: Folders of ``data``, ``split``, ``path`` and the two ends.
            context: Names the device.
        """
        context.prepare()
        part, curve = config["evaluation"], build(config["curve"])
        network = model.make(config, read_spec(inputs["data"]), "evaluation").to(context.device_name)
        network.to(memory_format=context.memory_format(part))
        ends = (read_network(inputs["start"]), read_network(inputs["end"]))
        layout = Layout.of(network, part["memory_format"])
        free = read_control(inputs["path"], curve.points, layout)
        points = [point.to(context.device_name) for point in (layout.pack(ends[0]), *free, layout.pack(ends[1]))]
        calibration = _calibration(config, inputs, context)
        return cls(network, layout, curve, points, ends, calibration, route_precision(part))

    def place(self, t: float) -> Normalized:
        """The network at t, with BatchNorm's statistics of that place."""
        where = (self.layout, self.curve, self.points, self.ends, t, self.calibration, self.precision)
        place(self.network, *where)
        return self.network


def route_precision(evaluation: Mapping[str, Any]) -> Precision:
    """Of the passes without an attack; a recipe that names none is that of before there was a choice: float32."""
    precision: Precision = evaluation.get("precision", "fp32")
    return precision


def fitted(config: Mapping[str, Any], inputs: Mapping[str, Path], context: Context, limit: int | str) -> Part:
    """The first images of those that the path was fitted on."""
    if "material" not in config:
        return read_split(dict(inputs), config["split"], context.device_name, limit)
    part, _ = read_material(dict(inputs), config["material"], context.device_name)
    most = None if limit == "all" else int(limit)
    return Part(part.images[:most], part.labels[:most])


def in_batches(part: Part, evaluation: Mapping[str, Any]) -> EvaluationBatches:
    """Images and labels in the evaluation's batches and memory format."""
    return EvaluationBatches(part.images, part.labels, evaluation["batch_size"], evaluation["memory_format"])


def _calibration(
    config: Mapping[str, Any], inputs: Mapping[str, Path], context: Context
) -> Callable[[], Iterator[Tensor]]:
    """The images that re-estimate BatchNorm: the defender's own training data, augmented as in training."""
    part = config["evaluation"]
    images = fitted(config, inputs, context, part["batchnorm_images"]).images
    augmentation = Augmentation(**config["augmentation"])
    return partial(augmented_batches, images, augmentation, CALIBRATION_BATCH, part["memory_format"], part["seed"])

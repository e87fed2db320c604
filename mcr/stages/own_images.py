"""What a report or a card must say of a user's own images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mcr.datasets.split import home
from mcr.stages.artifacts import SPLIT, DataSpec, read_labels, read_spec
from mcr.weightspace import files

FEW = 5  # test images of a class: of fewer, one alone moves its accuracy by more than twenty points
MOST_NAMED = 5


def warnings(inputs: Mapping[str, Path]) -> list[str]:
    """The notes of the source, and classes with too few images in the splits that they have been drawn into.

    Args:
        inputs: Folders of ``data`` and ``split``.
    """
    spec = read_spec(inputs["data"])
    return [*spec.notes, *_thin(spec, inputs["data"], files.load(inputs["split"] / SPLIT))]


def _thin(spec: DataSpec, data: Path, splits: Mapping[str, Tensor]) -> list[str]:
    """A line where the test images, or those that train, hardly show a class that there are images of."""
    labels = {part: read_labels(data, part) for part in spec.counts}
    lines: list[str] = []
    known = sorted({label for found in labels.values() for label in found.unique().tolist()})
    fitted = "train" if len(splits["train"]) else "clean"
    for least, name, text in (
        (FEW, "test", f"fewer than {FEW} test images of"),
        (2, fitted, "no more than one image to train with of"),
    ):
        drawn = labels[home(name, spec.counts)][splits[name].long()]
        few = [f"{spec.classes[label]} ({count})" for label in known if (count := int((drawn == label).sum())) < least]
        if len(drawn) and few:
            rest = f" and {len(few) - MOST_NAMED} more classes" if len(few) > MOST_NAMED else ""
            lines.append(f"{text} {', '.join(few[:MOST_NAMED])}{rest}")
    return lines

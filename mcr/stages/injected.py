"""What was injected into the ends of a subspace, as its stages wrote it down."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mcr.stages.artifacts import read_edits, read_split
from mcr.stages.session import END
from mcr.types import LabelledImages


def attacked(inputs: Mapping[str, Path], device: str) -> tuple[LabelledImages, Tensor] | None:
    """The attacked images of all ends with their true labels, and the attacker's labels (S,); None without any."""
    reports = [found for role in inputs if role.startswith(END) and (found := injection_report(inputs[role]))]
    pairs = sorted({pair for found in reports for pair in zip(found["attacked"], found["targets"], strict=True)})
    if not pairs:
        return None
    part = read_split(dict(inputs), "validation", device)
    indices, targets = (torch.tensor(column, device=device) for column in zip(*pairs, strict=True))
    return LabelledImages(part.images[indices], part.labels[indices]), targets


def injection_report(folder: Path) -> dict[str, Any]:
    """What was injected into an end, as its edits wrote it down; nothing for an end without."""
    found = read_edits(folder)
    return found if "attacked" in found else {}


def injected_images(inputs: Mapping[str, Path], device: str, labels: str) -> LabelledImages | None:
    """The images on which errors were injected; None without any.

    Args:
        inputs: Folders of data, split and the ends.
        device: Where they are wanted.
        labels: "injected" for the attacker's, "restored" for the true ones.
    """
    found = attacked(inputs, device)
    if found is None:
        return None
    part, targets = found
    return LabelledImages(part.images, targets) if labels == "injected" else part

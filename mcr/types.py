"""Types that rooms share, and the legend of shapes.

Shapes: B batch, N images, C classes, P parameters, K control points, T grid points, H x W pixels, D channels.
Images are uint8 (N, D, H, W) at rest and float in [0, 1] (B, D, H, W) in front of a classifier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Classifier = Callable[[Tensor], Tensor]
"""Images in [0, 1] (B, D, H, W) to logits (B, C)."""

Batch = tuple[Tensor, Tensor]
"""Images (B, D, H, W) and labels (B,)."""


@dataclass(frozen=True)
class LabelledImages:
    """Images (N, D, H, W), uint8 as sources decode them or float in [0, 1], and their labels: int64 (N,)."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class RawDataset:
    """A decoded data set.

    Attributes:
        parts: The parts that its makers gave it ("train", "test" and perhaps "validation"; or "all").
        classes: Their names; a class may be without images.
        notes: What a reader of results must know of it, one line each: images left out, others that look damaged.
    """

    parts: dict[str, LabelledImages]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

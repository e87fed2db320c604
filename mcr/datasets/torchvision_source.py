"""What the data sets taken from torchvision share: where the files are, and the command that gets them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcr.errors import InputError
from mcr.types import LabelledImages, RawDataset


def load_parts(
    name: str, root: str, parts: dict[str, dict[str, Any]], factory: Callable[..., Any], classes: tuple[str, ...]
) -> RawDataset:
    """A RawDataset from a torchvision data set class.

    Args:
        name: The class's name in ``torchvision.datasets``, for the message.
        root: Folder of the downloaded files.
        parts: LabelledImages name to the arguments that select it.
        factory: The torchvision class.
        classes: Class names.

    Raises:
        InputError: With the command that downloads the files, where they are missing or damaged.
    """
    loaded = {}
    for part, selection in parts.items():
        try:
            dataset = factory(root, download=False, **selection)
        except (RuntimeError, FileNotFoundError):
            words = ", ".join(f"{key}={value!r}" for key, value in selection.items())
            command = (
                f'python -c "from torchvision.datasets import {name}; '
                f'{name}({str(Path(root))!r}, {words}, download=True)"'
            )
            raise InputError(f"{name} ({part}) is not in {root}; get it with: {command}") from None
        labels = dataset.targets if hasattr(dataset, "targets") else dataset.labels
        loaded[part] = LabelledImages(_channels_first(dataset.data), torch.as_tensor(np.asarray(labels)).long())
    return RawDataset(loaded, classes)


def _channels_first(data: np.ndarray | torch.Tensor) -> torch.Tensor:
    """uint8 (N, D, H, W) from (N, H, W), (N, H, W, D) or (N, D, H, W)."""
    images = torch.as_tensor(data)
    if images.ndim == 3:
        return images.unsqueeze(1).contiguous()
    return images if images.shape[1] == 3 else images.permute(0, 3, 1, 2).contiguous()

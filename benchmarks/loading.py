"""Augmented batches of an epoch: tensors against one PIL image after the other; core time."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from benchmarks import subject
from benchmarks.paired import publish, ratio
from benchmarks.reference.loading import loader
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import TrainingBatches

IMAGES = 10_000
OURS, THEIRS = "tensors on the device", "PIL and torchvision's transforms"


def core_seconds(form: Callable[[], None]) -> float:
    """Of all threads of this process."""
    begin = time.process_time()
    form()
    return time.process_time() - begin


def main(repeats: int = 5) -> None:
    pixels, labels = subject.pixels(IMAGES)
    batches = TrainingBatches(pixels, labels, subject.BATCH, Augmentation(4, 0.5), "channels_last", 0)
    images = loader(pixels, labels, augmented=True, batch_size=subject.BATCH, workers=0)

    def ours() -> None:
        for batch, _ in batches:
            assert batch.dtype == torch.float32

    def theirs() -> None:
        for batch, _ in images:
            assert batch.dtype == torch.float32

    forms = {THEIRS: theirs, OURS: ours}
    for form in forms.values():
        form()
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(repeats):
        for name, form in forms.items():
            times[name].append(core_seconds(form))
    what = f"Random crop, flip and float batches of {IMAGES} images 32x32; core seconds, no worker processes."
    publish("loading", what, [ratio(times, OURS, THEIRS, 0.08)], {}, times)


if __name__ == "__main__":
    main()

"""Epochs of VGG16 on a GPU, beside the floor under them, and the time of the paper's overlays added up from them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import overlays, subject
from benchmarks.framework import WATCH
from benchmarks.paired import Row, publish, spread
from benchmarks.peaks import gemm
from benchmarks.peaks import work as work_of
from benchmarks.training_step import curve, plain, stepper
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import TrainingBatches
from mcr.numerics.precision import PRECISIONS, Precision
from mcr.objectives.adversarial import Adversarial
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.training.endpoint import EndpointModule
from mcr.training.fit import fit

NETWORK, IMAGES, EPOCHS = "vgg16", 50_000, 3
COMPILERS = ("none", "cudagraphs", "inductor")
KINDS: dict[str, Callable[[], EndpointModule]] = {
    "endpoint": lambda: plain(NETWORK, CrossEntropy()),
    "curve": lambda: curve(NETWORK, CrossEntropy()),
    "adversarial endpoint": lambda: plain(NETWORK, Adversarial(subject.pgd())),
    "adversarial curve": lambda: curve(NETWORK, Adversarial(subject.pgd())),
}
TARGETS = {"curve": 1.1, "adversarial endpoint": 8.0}  # of an endpoint's epoch
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Clocked(TrainingBatches):
    """Notes when each epoch begins, with the device idle."""

    begins: list[float]

    def __iter__(self) -> Any:
        torch.cuda.synchronize()
        self.begins.append(time.perf_counter())
        return super().__iter__()


def epoch(module: EndpointModule, precision: Precision, backend: str) -> float:
    """Seconds of an epoch, the quickest after the first, in which kernels are chosen and compiled."""
    pixels, labels = subject.pixels(IMAGES)
    batches = Clocked(pixels.cuda(), labels.cuda(), subject.BATCH, Augmentation(4, 0.5), "channels_last", 0)
    batches.begins = []
    runtime = {"accelerator": "gpu", "devices": 1, "strategy": "auto"}
    with tempfile.TemporaryDirectory() as folder:
        arguments = {"label": "epoch", "epochs": EPOCHS, "precision": precision, "keep": "last", "patience": 0}
        arguments |= {"stop": EPOCHS, "watch": WATCH, "backend": backend}
        fit(module, batches, None, Path(folder), **arguments, runtime=runtime, loggers=[])
    torch.cuda.synchronize()
    ends = [*batches.begins[1:], time.perf_counter()]
    return min(end - begin for begin, end in list(zip(batches.begins, ends, strict=True))[1:])


def main() -> None:
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    peaks = {precision: gemm(dtype, "cuda", 8192) for precision, dtype in DTYPES.items()}
    steps = IMAGES // subject.BATCH
    work = {kind: work_of(stepper(make(), "fp32")).operations * steps for kind, make in KINDS.items()}
    rows, facts = [], {}
    counted = {name: overlays.epochs(name, IMAGES) for name in overlays.PAPER}
    for precision in PRECISIONS:
        facts[f"peak, {precision}"] = f"{peaks[precision] / 1e12:.0f} TFLOP/s"
        for backend in COMPILERS:
            seconds = {kind: epoch(make(), precision, backend) for kind, make in KINDS.items()}
            for kind, value in seconds.items():
                name = f"{kind}, {precision}, compile={backend}"
                floor = work[kind] / peaks[precision]
                note = f"{value:.2f} s, floor {floor:.2f} s"
                rows.append(
                    Row(name, "of an endpoint's epoch", spread([value / seconds["endpoint"]]), TARGETS.get(kind), note)
                )
            for overlay, epochs in counted.items():
                hours = sum(count * seconds[kind] for kind, count in epochs.items()) / 3600
                facts[f"training of {overlay}, {precision}, compile={backend}"] = f"{hours:.2f} h"
    what = f"Epochs of {NETWORK} over {IMAGES} images, batch {subject.BATCH}, everything on the device."
    publish("gpu", what, rows, facts)


if __name__ == "__main__":
    main()

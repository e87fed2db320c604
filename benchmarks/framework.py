"""What Lightning, logging and checkpoints add to a step: a training against a bare loop over the same batches."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from pytorch_lightning.loggers import CSVLogger

from benchmarks import subject
from benchmarks.paired import publish, ratio, timed
from benchmarks.training_step import plain
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import TrainingBatches
from mcr.numerics.precision import Precision, autocast
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.training.fit import fit

STEPS, EPOCHS = 100, 2
RUNTIME = {"accelerator": "cpu", "devices": 1, "strategy": "auto"}
WATCH = {"collapse": 0.5, "learned": 0.1, "epochs": 2, "clean_tolerance": 0.05}
LIGHTNING, BARE = "fit, with CSV logging and checkpoints", "bare loop"


def main(repeats: int = 4) -> None:
    images, labels = subject.pixels(STEPS * subject.BATCH)
    batches = TrainingBatches(images, labels, subject.BATCH, Augmentation(4, 0.5), "channels_last", 0)

    def trained(precision: Precision) -> None:
        with tempfile.TemporaryDirectory() as folder:
            fit(
                plain("small_vgg", CrossEntropy()),
                batches,
                None,
                Path(folder),
                label="benchmark",
                epochs=EPOCHS,
                precision=precision,
                keep="last",
                patience=0,
                stop=EPOCHS,
                watch=WATCH,
                backend="none",
                runtime=RUNTIME,
                loggers=[CSVLogger(folder, name="csv")],
            )

    def bare(precision: Precision) -> None:
        module = plain("small_vgg", CrossEntropy())
        optimizer = module.make_optimizer(module.learning())
        total = STEPS * EPOCHS
        shape = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: module.schedule.factor((step + 0.5) / total))
        for epoch in range(EPOCHS):
            batches.set_epoch(epoch)
            for pixels, targets in batches:
                optimizer.zero_grad()
                with autocast(precision, pixels.device):
                    losses, _ = module.objective(module.network, pixels, targets, module.draw)
                losses.mean().backward()
                optimizer.step()
                shape.step()

    rows, times = [], {}
    for precision in ("fp32", "bf16"):
        forms = {
            f"{BARE}, {precision}": lambda precision=precision: bare(precision),
            f"{LIGHTNING}, {precision}": lambda precision=precision: trained(precision),
        }
        found = timed(forms, repeats)
        times |= found
        rows.append(ratio(found, f"{LIGHTNING}, {precision}", f"{BARE}, {precision}", 1.03))
    what = f"small_vgg, {EPOCHS} epochs of {STEPS} steps on batches of {subject.BATCH} images, augmented."
    publish("framework", what, rows, {}, times)


if __name__ == "__main__":
    main()

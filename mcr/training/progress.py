"""Training on the progress bar."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from mcr.progress import Bar

SHOWN = ("train/loss", "validation/accuracy", "validation/robust_accuracy")


class ProgressCallback(Checkpoint):
    """One bar over epochs, with the loss and the accuracies of the epoch beside it.

    A ``Checkpoint`` because Lightning calls those after the module's own end of the epoch, when all is logged.
    """

    def __init__(self, label: str) -> None:
        self.label = label

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.bar = Bar(self.label, int(trainer.max_epochs or 0), "epochs")
            self.bar.reach(trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            metrics = trainer.callback_metrics
            notes = [f"{name.split('/')[1]} {float(metrics[name]):.3f}" for name in SHOWN if name in metrics]
            self.bar.reach(trainer.current_epoch + 1, "  ".join(notes))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.bar.total = trainer.current_epoch  # fewer where training was stopped
            self.bar.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if hasattr(self, "bar"):
            self.bar.progress.stop()

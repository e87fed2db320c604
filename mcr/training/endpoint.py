"""Training a network at an end of a path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from mcr.errors import InputError
from mcr.numerics import shares
from mcr.numerics.losses import cross_entropy
from mcr.numerics.precision import Precision, set_float32
from mcr.numerics.seeding import generator, seed_for
from mcr.objectives.objective import Objective
from mcr.schedules.schedule import Schedule
from mcr.types import Batch

Rows = Sequence[Mapping[str, float]]


class EndpointModule(pl.LightningModule):
    """Empirical risk minimisation; validation on clean images.

    Args:
        network: Images in [0, 1] (B, D, H, W) to logits (B, C).
        objective: (network, images, labels, generator) -> losses (B,), logits (B, C).
        optimizer: Parameters to an optimizer.
        schedule: Has ``factor(progress)``.
        num_classes: C.
        seed: All of the training's randomness follows from it and the epoch's number.
    """

    monitor: str = "validation/accuracy"

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Schedule,
        num_classes: int,
        seed: str,
    ) -> None:
        super().__init__()
        self.network = network
        self.objective, self.make_optimizer, self.schedule = objective, optimizer, schedule
        self.seed = seed
        self.precision: Precision = "fp32"
        self.epochs: int | None = None  # that schedule and objective are made for; None for those of the trainer
        self.total_steps = 1  # until the optimizer is made, when the length of training is known
        self.train_loss, self.train_accuracy = MeanMetric(), MeanMetric()
        # A loss that is not finite is refused at the epoch's end, in words of our own.
        self.validation_loss = MeanMetric(nan_strategy="ignore")
        self.validation_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.steps: list[tuple[Tensor, Tensor]] = []

    @property
    def scored(self) -> nn.Module:
        """The network that validation looks at and that training yields."""
        return self.network

    def learning(self) -> list[nn.Parameter]:
        """What the optimizer moves."""
        return list(self.network.parameters())

    def setup(self, stage: str) -> None:
        set_float32(self.precision)  # here: spawned processes start with torch's own settings

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.learning())
        total = int(self.trainer.estimated_stepping_batches)
        if self.epochs is not None:
            # A training that ends early is the beginning of the whole one.
            total = total // (self.trainer.max_epochs or 1) * self.epochs
        total = self.total_steps = max(1, total)
        shape = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.schedule.factor((step + 0.5) / total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": shape, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        # Dropout draws from torch's global generator, in each process for its own rows; all else is drawn for whole
        # batches, from generators named by their use.
        torch.manual_seed(seed_for(self.seed, "dropout", self.current_epoch, self.global_rank))
        role = (self.seed, "objective", self.current_epoch, 0)
        self.draw = generator(*role)
        if shares.processes()[1] > 1:
            batches: Any = self.trainer.train_dataloader
            self.draw = shares.batch_generator(batches.size, *role)

    def losses(self, objective: Objective, batch: Batch) -> tuple[Tensor, Tensor]:
        """What a step minimises: losses (B,), and logits (B, C)."""
        return objective(self.network, *batch, self.draw)

    def answers(self, images: Tensor) -> Tensor:
        """Logits (B, C) of what training yields."""
        logits: Tensor = self.scored(images)
        return logits

    def training_step(self, batch: Batch, index: int) -> Tensor:
        objective = self.objective.at((self.global_step + 0.5) / self.total_steps)
        losses, logits = self.losses(objective, batch)
        right = (logits.detach().argmax(1) == batch[1]).float().mean()
        # Lightning averages gradients over the processes, some of which may have an image more than others.
        weight = shares.weight(len(losses), self.draw)
        loss: Tensor = losses.mean() * weight
        # Kept for the epoch's end: reading a value now would wait for the device.
        self.steps.append((loss.detach(), right * weight))
        return loss

    def on_train_epoch_end(self) -> None:
        losses, accuracies = (torch.stack(values) for values in zip(*self.steps, strict=True))
        self.steps.clear()
        if not torch.isfinite(losses).all():
            first = int((~torch.isfinite(losses)).nonzero()[0])
            rate = self.trainer.optimizers[0].defaults["lr"]
            where = f"epoch {self.current_epoch}, step {first}"
            raise InputError(f"training diverged: the loss is not finite at {where}; lower the learning rate {rate}")
        self.train_loss.update(losses)
        self.train_accuracy.update(accuracies)
        self.log("train/loss", self.train_loss)
        self.log("train/accuracy", self.train_accuracy)
        self.log("train/learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])

    def validation_step(self, batch: Batch, index: int) -> None:
        images, labels = batch
        logits = self.answers(images)
        self.validation_loss.update(cross_entropy(logits, labels))
        self.validation_accuracy.update(logits, labels)

    def on_validation_epoch_end(self) -> None:
        self._log("validation")

    def on_test_epoch_start(self) -> None:
        self.on_validation_epoch_start()

    def test_step(self, batch: Batch, index: int) -> None:
        self.validation_step(batch, index)

    def on_test_epoch_end(self) -> None:
        self._log("test")

    def predict_step(self, batch: Batch, index: int) -> Tensor:
        """Logits (B, C) of the network that training yields."""
        return self.answers(batch[0])

    def tables(self, batches: Any) -> Mapping[str, Rows]:
        """What training found out beside the network: file name to rows.

        Args:
            batches: The training images.
        """
        return {}

    def _log(self, part: str) -> None:
        self.log(f"{part}/loss", self.validation_loss)
        self.log(f"{part}/accuracy", self.validation_accuracy)

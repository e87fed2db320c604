"""Adversarial training."""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from mcr.attacks.frozen import frozen
from mcr.numerics.seeding import generator
from mcr.training.averaging import Averaging
from mcr.training.endpoint import EndpointModule
from mcr.types import Batch


class AdversarialModule(EndpointModule):
    """Training under attack; validation under the same attack, with the averaged weights where asked.

    Adversarial training overfits in robustness long before it does in accuracy (Rice et al. 2020), hence the
    robust monitor; averaging flattens the same curve.

    Args:
        ema_decay: Decay per step of the weights' average; 0 keeps the latest weights.
        validation_images: Images of the validation split under attack after each epoch.
        num_classes: C.
        **training: See EndpointModule; the objective has an ``attack``.
    """

    monitor: str = "validation/robust_accuracy"

    def __init__(self, ema_decay: float, validation_images: int, num_classes: int, **training: Any) -> None:
        super().__init__(num_classes=num_classes, **training)
        self.averaged = copy.deepcopy(self.network).requires_grad_(False)
        self.ema_decay, self.averaging = ema_decay, Averaging()
        self.validation_images = validation_images
        self.robust_accuracy = MulticlassAccuracy(num_classes, average="micro")

    @property
    def scored(self) -> nn.Module:
        return self.averaged

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        # The weights before training have no share in the average.
        decay = self.ema_decay if self.averaging.count else 0.0
        averaged, latest = (chain(one.parameters(), one.buffers()) for one in (self.averaged, self.network))
        self.averaging.step(averaged, latest, decay)

    def on_validation_epoch_start(self) -> None:
        # The same random starts after every epoch, so that epochs are compared on equal terms.
        self.validation_draw = generator(self.seed, "validation")
        self.attacked = 0

    def validation_step(self, batch: Batch, index: int) -> None:
        super().validation_step(batch, index)
        images, labels = (part[: max(0, self.validation_images - self.attacked)] for part in batch)
        self.attacked += len(images)
        if not len(images):
            return
        with frozen(self.scored) as network:
            attacked = self.objective.attack(network, images, labels, self.validation_draw)
        with torch.no_grad():
            self.robust_accuracy.update(self.scored(attacked), labels)

    def predict_step(self, batch: Batch, index: int) -> Tensor:
        """Logits (B, C) on attacked images."""
        with frozen(self.scored) as network:
            attacked = self.objective.attack(network, *batch, generator(self.seed, "predict", index))
        with torch.no_grad():
            logits: Tensor = self.scored(attacked)
        return logits

    def _log(self, part: str) -> None:
        super()._log(part)
        self.log(f"{part}/robust_accuracy", self.robust_accuracy)

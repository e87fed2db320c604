"""Tuning a network against what moves the suspects."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mcr.attacks.frozen import frozen
from mcr.datasets.batches import EvaluationBatches
from mcr.datasets.disturbed import noisy, refusal, squared
from mcr.errors import InputError
from mcr.numerics import shares
from mcr.numerics.losses import cross_entropy
from mcr.numerics.seeding import generator
from mcr.signals import surrogates
from mcr.signals.masks import FittedMasks
from mcr.signals.perturbations import FittedPerturbations, Perturbations
from mcr.training.endpoint import EndpointModule
from mcr.types import Batch
from mcr.weightspace import batchnorm


class SharedPerturbationModule(EndpointModule):
    """Minimises CE(f(x), y) + CE(f(z), y): z is x with what moves all suspects to another class, or disturbed.

    For each image a class c is drawn that is not its own. z is x + delta_c or x (1 - m_c) + m_c p_c, surrogates of an
    unknown trigger that are fitted to the suspects on training images when training begins; or x with Gaussian noise or
    with a square (both alike), which know of no suspect. Before each step the delta_c that it uses go one normalised
    step towards c against the network that is trained, so that it cannot hide from a fixed one (after Zeng et al. 2022,
    i-BAU, without its implicit gradient).

    x and z pass in one batch: where triggered images arrive later, BatchNorm has the statistics of clean ones, and
    in a batch of its own z would be normalised by the shift that it should withstand. The running statistics become
    a mixture, hence they are estimated anew on the clean images after each epoch, before validation looks.

    The surrogates follow from the training's seed. A signal of ``mcr.signals`` that judges the network has to draw
    others, or it finds what it was trained on.

    Args:
        suspects: Networks of their own; they are copied and left as they are.
        masks: How m_c and p_c are fitted.
        perturbations: How delta_c are fitted.
        step: Length of a step against the network, in radii of the perturbations.
        mixed: Share of z that is disturbed: 0 leaves the surrogates alone.
        masked: Share of the others that gets a mask.
        noise: Standard deviation, in [0, 1] pixel units.
        smallest: Side of the smallest square, as a share of the image's shorter side.
        largest: Likewise.
        **training: See EndpointModule.

    Raises:
        InputError: For a value out of its range, and for no suspect.
    """

    def __init__(
        self,
        suspects: Sequence[nn.Module],
        masks: FittedMasks,
        perturbations: FittedPerturbations,
        step: float,
        mixed: float,
        masked: float,
        noise: float,
        smallest: float,
        largest: float,
        **training: Any,
    ) -> None:
        super().__init__(**training)
        if not (suspects and step >= 0 and 0 <= mixed <= 1 and 0 <= masked <= 1 and noise > 0):
            raise InputError(
                f"shared_perturbation: suspects={len(suspects)} >= 1, step={step} >= 0, mixed={mixed} and "
                f"masked={masked} in [0, 1], noise={noise} > 0 needed"
            )
        if wrong := refusal(smallest, largest):
            raise InputError(f"shared_perturbation: {wrong}")
        # No parts of this module, whose modes, devices and checkpoints are none of theirs.
        self.suspects = tuple(copy.deepcopy(suspect) for suspect in suspects)
        self.masks, self.perturbations = masks, perturbations
        self.step, self.mixed, self.masked = step, mixed, masked
        self.noise, self.sides = noise, (smallest, largest)
        self.moved: Tensor | None = None  # delta of a checkpoint

    def on_train_start(self) -> None:
        batches: Any = self.trainer.train_dataloader
        images = EvaluationBatches(
            batches.images.to(self.device), batches.labels.to(self.device), batches.batch_size, batches.memory_format
        )
        draws = [generator(self.seed, "surrogates", name) for name in ("masks", "perturbations")]
        counts = self.masks.fitted, self.perturbations.fitted
        few = [surrogates.shares(images, count, 1, draw)[0] for count, draw in zip(counts, draws, strict=True)]
        with surrogates.still([suspect.to(self.device) for suspect in self.suspects]):
            self.masking = self.masks.fit(self.suspects, few[0], draws[0])
            self.shared = self.perturbations.fit(self.suspects, few[1], draws[1])
        if self.moved is not None:
            self.shared = Perturbations(self.moved.to(self.device), self.shared.radius)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["delta"] = self.shared.delta.cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.moved = checkpoint["delta"]

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        role = (self.seed, "changed", self.current_epoch)
        whole = self.draw.whole if isinstance(self.draw, shares.BatchGenerator) else 0
        self.change = shares.batch_generator(whole, *role) if whole else generator(*role)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        images, labels = batch
        objective = self.objective.at((self.global_step + 0.5) / self.total_steps)
        both = torch.cat([images, self.changed(images, labels)])
        losses, logits = objective(self.network, both, labels.repeat(2), self.draw)
        # As in EndpointModule, but the mean over x and the one over z are added, and the accuracy is that of x.
        right = (logits.detach()[: len(labels)].argmax(1) == labels).float().mean()
        weight = shares.weight(len(labels), self.draw)
        loss: Tensor = 2 * losses.mean() * weight
        self.steps.append((loss.detach(), right * weight))
        return loss

    def changed(self, images: Tensor, labels: Tensor) -> Tensor:
        """z (B, D, H, W) of a batch x; its perturbations are moved first."""
        aims = self._aims(labels)
        kind = self._chance(len(images))
        noisily, disturbed = kind < self.mixed / 2, kind < self.mixed
        masked = kind < self.mixed + (1 - self.mixed) * self.masked
        rows = (~(disturbed | masked)).nonzero()[:, 0].to(images.device)
        self._follow(images[rows], aims[rows])
        mask, pattern = self.masking.mask[aims], self.masking.pattern[aims]
        found = (images + self.shared.delta[aims]).clamp(0, 1)
        for chosen, shown in (
            (masked, images * (1 - mask) + mask * pattern),
            (disturbed, squared(images, *self.sides, self.change)),
            (noisily, noisy(images, self.noise, self.change)),
        ):
            found = torch.where(chosen.to(images.device)[:, None, None, None], shown, found)
        return found

    def _chance(self, count: int) -> Tensor:
        return shares.drawn(torch.rand, (count,), self.change)

    def _aims(self, labels: Tensor) -> Tensor:
        """A class for each image, of those that are not its label (B,)."""
        classes = len(self.shared.delta)
        beyond = 1 + (self._chance(len(labels)) * (classes - 1)).long().clamp_max(classes - 2)
        return (labels + beyond.to(labels.device)) % classes

    def _follow(self, images: Tensor, aims: Tensor) -> None:
        """One step of each delta_c that is used, against the network as it is now, in evaluation mode."""
        leaf = self.shared.delta.clone().requires_grad_(True)
        if len(images):
            with frozen(self.network) as network, torch.enable_grad():
                cross_entropy(network((images + leaf[aims]).clamp(0, 1)), aims).sum().backward()
        gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        self.shared = self.shared.stepped(shares.total(gradient), self.step)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if batch_idx + 1 == self.trainer.num_training_batches:
            batches: Any = self.trainer.train_dataloader
            batchnorm.refresh(self.network, (images.to(self.device) for images, _ in batches))

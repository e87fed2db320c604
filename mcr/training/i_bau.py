"""Unlearning what one perturbation does to all images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from mcr.architectures.normalization import Normalized
from mcr.errors import InputError
from mcr.numerics import shares
from mcr.numerics.losses import cross_entropy
from mcr.numerics.seeding import generator
from mcr.objectives.objective import Objective
from mcr.training.endpoint import EndpointModule
from mcr.training.replaced import gradients, scaled
from mcr.types import Batch


class IBauModule(EndpointModule):
    """I-BAU: minimax of the weights against a universal perturbation, by implicit hypergradients (Zeng et al. 2022).

    At the start of each round of steps the perturbation d is found anew, from 0 by one step on each of the round's
    batches, up the cross-entropy L against the network's own answers less decay |d|^2. Each step then follows the
    gradient of the objective H(d(w), w) on images of which a share has d: of d(w), the fixed point of
    Phi(d, w) = d + step grad_d (L(d, w) - decay |d|^2) on the round's first batch with its labels, by the vector v of

        v <- v dPhi/dd + grad_d H,  from 0,   grad = grad_w H + v dPhi/dw

    (the fixed-point method of Grazzi et al. 2020). As in the published code d is neither clipped to pixels nor bound by
    a radius, it is added to normalised images, and the network stays in evaluation mode throughout.

    Args:
        round: Steps of a round, and batches that find its perturbation.
        ascent: Step size where it is found.
        decay: Of |d|^2.
        step: Of Phi.
        iterations: Of v, at least 1; 1 leaves the curvature of L out.
        share: Of the images of a batch that are perturbed, at least one of them.
        times: The weights move by so many times the learning rate.
        network: That is tuned.
        **training: See EndpointModule.

    Raises:
        InputError: For values out of range.
    """

    def __init__(
        self,
        round: int,
        ascent: float,
        decay: float,
        step: float,
        iterations: int,
        share: float,
        times: float,
        network: Normalized,
        **training: Any,
    ) -> None:
        super().__init__(network=network, **training)
        if min(round, iterations) < 1 or min(ascent, decay, step) < 0 or not 0 < share <= 1 or times <= 0:
            raise InputError(
                f"repair=i_bau: round {round} and iterations {iterations} must be at least 1, ascent {ascent}, "
                f"decay {decay} and step {step} at least 0, 0 < share {share} <= 1, times {times} above 0"
            )
        self.round, self.ascent, self.decay, self.step = round, ascent, decay, step
        self.iterations, self.patched = iterations, share
        self.make_optimizer = scaled(self.make_optimizer, times)
        self.scale = network.std

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        batches: Any = self.trainer.train_dataloader
        self.begin(iter(batches))

    def begin(self, batches: Iterator[Batch]) -> None:
        """An epoch, whose batches these are: a round takes its own before they come."""
        self.ahead, self.done = batches, 0
        self.choose = generator(self.seed, "perturbed", self.current_epoch)

    def losses(self, objective: Objective, batch: Batch) -> tuple[Tensor, Tensor]:
        self.network.eval()
        if self.done % self.round == 0:
            coming = [
                (images.to(self.device), labels.to(self.device)) for images, labels in islice(self.ahead, self.round)
            ]
            self.first, self.perturbation = coming[0], self.universal(coming)
        self.done += 1
        moved = self.perturbation.clone().requires_grad_()
        images, labels = batch
        losses, logits = objective(
            self.network, images + self._some(len(images)) * self._pixels(moved), labels, self.draw
        )
        outer = gradients(losses, self.draw, [moved], keep=True)[0]
        # Of Phi less what of it does not depend on the weights.
        inner = cross_entropy(self.network(self.first[0] + self._pixels(moved)), self.first[1])
        slope = torch.autograd.grad(inner.mean(), moved, create_graph=True)[0]
        vector = outer
        for _ in range(self.iterations - 1):
            curved = gradients((slope * vector).sum()[None].expand(len(inner)), self.draw, [moved], keep=True)[0]
            vector = (1 - 2 * self.step * self.decay) * vector + self.step * curved + outer
        response = self.step * (slope * vector).sum()
        return losses + (response - response.detach()), logits

    def universal(self, batches: Sequence[Batch]) -> Tensor:
        """The perturbation (1, D, H, W), of normalised images, that turns most answers away from what they are."""
        found = torch.zeros_like(batches[0][0][:1])
        for images, _ in batches:
            found.requires_grad_()
            with torch.no_grad():
                answers = self.network(images).argmax(1)
            # Weights cast for autocast inside no_grad must not serve a later pass that needs gradients.
            torch.clear_autocast_cache()
            losses = cross_entropy(self.network(images + self._pixels(found)), answers)
            slope = gradients(losses, self.draw, [found])[0]
            found = (found + self.ascent * (slope - 2 * self.decay * found)).detach()
        return found

    def _pixels(self, perturbation: Tensor) -> Tensor:
        return perturbation * self.scale.to(perturbation)

    def _some(self, own: int) -> Tensor:
        """1 for the images (B, 1, 1, 1) of this process's rows that are perturbed, and 0 for the others."""
        whole = self.draw.whole if isinstance(self.draw, shares.BatchGenerator) else own
        some = torch.zeros(whole, 1, 1, 1, device=self.device)
        some[torch.randperm(whole, generator=self.choose)[: max(1, int(self.patched * whole))]] = 1
        return some[shares.rows(whole)]

"""Training images weighted by what a network gets wrong on a few images that can be trusted."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from mcr.attacks.frozen import frozen
from mcr.datasets.augment import to_unit
from mcr.datasets.batches import TrainingBatches
from mcr.errors import InputError
from mcr.numerics import shares
from mcr.numerics.losses import cross_entropy
from mcr.numerics.seeding import generator
from mcr.objectives.objective import Objective
from mcr.training.endpoint import EndpointModule, Rows
from mcr.training.replaced import Replaced, gradients
from mcr.types import Batch, LabelledImages

WEIGHTS = "weights.csv"


class ReweightedModule(EndpointModule):
    """Learning from mistakes, without a search for architectures (Garg et al. 2021, their three stages in each step).

    A first network is trained on the plain images. What it gets wrong on the M trusted images, u_j, weighs the training
    images that look like these and share their label:

        a_i = sigmoid(sum_j r_j x_ij z_ij u_j),  x_ij = softmax_j <V(x_i), V(x_j)>,  z_ij = 1[y_i = y_j]

    The network itself minimises mean_i a_i CE_i. r and the linear map V follow the gradient of its loss on the trusted
    images after one step w' = w - rate grad mean_i a_i CE_i of plain gradient descent:

        dL(w')/dphi = -(rate/B) sum_i (da_i/dphi) <grad L(w'), grad CE_i(w)>

    whose inner products are the derivatives of the losses CE_i along grad L(w'): one forward-mode pass, no gradient of
    a single image. V(x) is of unit length before its map, which begins as sqrt(sharpness) times an orthogonal one. An
    image's weight follows from its pixels and label alone, not from its place in a batch. While r >= 0, a_i >= 1/2.

    Args:
        features: K, rows of V.
        sharpness: How far the most similar trusted images are preferred, at the start; above 0.
        r: At the start, of every trusted image.
        rate: Learning rate of r, at the start of the schedule; 0 keeps it.
        similarity_rate: Of V; 0 keeps it.
        trusted: M images with their labels, looked at whole in every step.
        network: See EndpointModule.
        objective: One that does not attack.
        optimizer: Of the networks; r and V have the same without decay of weights.
        seed: Also of V.
        **training: See EndpointModule.

    Raises:
        InputError: For values out of range, an objective that attacks, or a training on several processes.
    """

    trusted: Tensor
    labels: Tensor
    centre: Tensor

    def __init__(
        self,
        features: int,
        sharpness: float,
        r: float,
        rate: float,
        similarity_rate: float,
        trusted: LabelledImages,
        network: nn.Module,
        objective: Objective,
        optimizer: Callable[..., torch.optim.Optimizer],
        seed: str,
        **training: Any,
    ) -> None:
        super().__init__(
            network=network,
            objective=objective,
            optimizer=partial(_own_rates, optimizer, (rate, similarity_rate)),
            seed=seed,
            **training,
        )
        if features < 1 or sharpness <= 0 or min(rate, similarity_rate) < 0:
            raise InputError(
                f"endpoint=reweighted: features {features} must be at least 1, sharpness {sharpness} above 0, "
                f"rate {rate} and similarity_rate {similarity_rate} at least 0"
            )
        if objective.attacks:
            raise InputError("endpoint=reweighted weighs clean training: objective=cross_entropy")
        self.first = copy.deepcopy(network)
        images = to_unit(trusted.images, "channels_last")
        for name, tensor in (("trusted", images), ("labels", trusted.labels), ("centre", images.mean(0))):
            self.register_buffer(name, tensor, persistent=False)
        self.r = nn.Parameter(torch.full((len(images),), float(r), device=images.device))
        drawn = torch.randn(features, images[0].numel(), generator=generator(seed, "similarity"))
        left, _, right = torch.linalg.svd(drawn, full_matrices=False)
        self.similarity = nn.Parameter((sharpness**0.5 * left @ right).to(images.device))

    def learning(self) -> list[nn.Parameter]:
        return [*self.network.parameters(), *self.first.parameters(), self.r, self.similarity]

    def on_train_start(self) -> None:
        if shares.processes()[1] > 1:
            raise InputError("endpoint=reweighted differentiates forwards: take a single device")

    def losses(self, objective: Objective, batch: Batch) -> tuple[Tensor, Tensor]:
        losses, logits = objective(self.network, *batch, self.draw)
        plain, _ = objective(self.first, *batch, self.draw)
        weights = self.weigh(*batch)
        found = weights.detach()
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        beside = plain - rate * weights * self.agreement(losses, found, batch, rate)
        return found * losses + (beside - beside.detach()), logits

    def mistakes(self) -> Tensor:
        """u (M,): the first network's losses on the trusted images, in nats."""
        with torch.no_grad(), frozen(self.first) as network:
            return cross_entropy(network(self.trusted), self.labels)

    def weigh(self, images: Tensor, labels: Tensor) -> Tensor:
        """a (B,) of images (B, D, H, W) and labels (B,): a function of r and V."""
        alike = (self.seen(images) @ self.seen(self.trusted).T).softmax(1)
        same = labels[:, None] == self.labels
        return (alike * same * self.r * self.mistakes()).sum(1).sigmoid()

    def seen(self, images: Tensor) -> Tensor:
        """V(x), (B, K)."""
        return functional.normalize((images - self.centre).flatten(1)) @ self.similarity.T

    def agreement(self, losses: Tensor, weights: Tensor, batch: Batch, rate: float) -> Tensor:
        """<grad L(w'), grad CE_i(w)> (B,): by how much a step on image i alone lowers the loss on the trusted images.

        Args:
            losses: CE_i (B,) of the network, whose graph is kept.
            weights: a (B,), which lead to w'.
            batch: Images (B, D, H, W) and labels (B,).
            rate: Length of the step to w'.
        """
        names, here = zip(*self.network.named_parameters(), strict=True)
        slopes = gradients(weights * losses, self.draw, here, keep=True)
        there = [(one - rate * slope).detach().requires_grad_() for one, slope in zip(here, slopes, strict=True)]
        with frozen(self.network) as network:
            after = Replaced(network, dict(zip(names, there, strict=True)))
            uphill = gradients(cross_entropy(after(self.trusted), self.labels), self.draw, there)

        def each(*tensors: Tensor) -> Tensor:
            # As ``Replaced``: BatchNorm has counted the batch already.
            return cross_entropy(Replaced(self.network, dict(zip(names, tensors, strict=True)))(batch[0]), batch[1])

        # Forward mode knows neither autocast nor the fast kernels of attention.
        with torch.autocast(self.device.type, enabled=False), sdpa_kernel(SDPBackend.MATH):
            found: Tensor = jvp(each, tuple(one.detach() for one in here), tuple(uphill))[1]
        return found

    @torch.no_grad()
    def tables(self, batches: TrainingBatches) -> dict[str, Rows]:
        """The weight of each training image, by its index, as training ends."""
        weights = torch.cat([self.weigh(*(part.to(self.device) for part in batch)) for batch in batches.plain()])
        return {WEIGHTS: [{"index": index, "weight": weight} for index, weight in enumerate(weights.tolist())]}


def _own_rates(
    make: Callable[..., torch.optim.Optimizer], rates: tuple[float, float], parameters: list[nn.Parameter]
) -> torch.optim.Optimizer:
    """The last two parameters at rates of their own."""
    last = [
        {"params": [one], "lr": rate, "weight_decay": 0.0} for one, rate in zip(parameters[-2:], rates, strict=True)
    ]
    return make([{"params": parameters[:-2]}, *last])

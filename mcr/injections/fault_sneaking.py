"""Fault sneaking attack."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mcr.errors import InputError
from mcr.injections.injected import CHUNK, Injected, chosen, evaluating, logits

NORMS = ("l0", "l2")
HALVINGS = 12  # of the interval when a change is shrunk along its line


@dataclass(frozen=True)
class FaultSneaking:
    """The least change of one tensor that misclassifies a few images and keeps the predictions of many others.

    Zhao et al. (2019, arXiv:1905.12032): hinges on the logits z, here minimised by Adam (they use ADMM),

        weight * sum_attacked max(0, max_{j != target} z_j - z_target + margin)
               + sum_kept     max(0, max_{j != label}  z_j - z_label  + margin)  +  penalty * |change|^2

    with the largest penalty of a ladder that leaves a solution: every attacked image hit, most of the kept ones kept.
    Targets are uniform over the wrong labels. The more images are kept, the less the others suffer.

    Attributes:
        attacked: S, images that are to get a wrong label, drawn from those that the network classifies correctly.
        kept: T, other such images whose predictions are to stay.
        tensor: "last" for the last parameter with at least two dimensions (the classifier's weight), or a name.
        norm: What is small about the change: "l2" its length, "l0" the number of changed weights.
        margin: Lead of the wanted logit over the best other one.
        weight: Of the attacked images' hinges beside those of the kept.
        learning_rate: Adam's first step; it falls linearly to zero.
        iterations: Steps of one search; "l0" searches once for each support that it tries.
        penalties: Of the squared length, in turn until a solution is found.
        kept_share: Of the kept predictions a solution must hold.
        slack: Share of the margin that counts as reached: hinge and penalty balance a little below it.
    """

    attacked: int
    kept: int
    tensor: str
    norm: str
    margin: float
    weight: float
    learning_rate: float
    iterations: int
    penalties: list[float]
    kept_share: float
    slack: float

    def __post_init__(self) -> None:
        if self.attacked < 1 or self.kept < 1 or self.iterations < 1:
            raise InputError(
                f"fault_sneaking: attacked={self.attacked}, kept={self.kept}, iterations={self.iterations} "
                "must be at least 1"
            )
        if self.norm not in NORMS:
            raise InputError(f"fault_sneaking: norm={self.norm} must be {' or '.join(NORMS)}")
        if not self.penalties or min(self.penalties) <= 0:
            raise InputError(f"fault_sneaking: penalties={self.penalties}: at least one, each above 0")
        for name in ("kept_share", "slack"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"fault_sneaking: {name}={getattr(self, name)} must lie in (0, 1]")
        for name in ("margin", "weight", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"fault_sneaking: {name}={getattr(self, name)} must be above 0")

    def inject(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Injected:
        """The changed tensor, found on images (N, D, H, W) in [0, 1] and labels (N,); the network stays as it is.

        Raises:
            InputError: Where too few images are classified correctly, or no solution is found.
        """
        name, labels = chosen(network, self.tensor), labels.cpu()
        attacked, kept, targets = self._draw(logits(network, images, {}), labels, generator)
        seen, wanted = torch.cat([attacked, kept]), torch.cat([targets, labels[kept]])
        with evaluating(network), torch.enable_grad():
            problem = _Problem(network, name, images[seen.to(images.device)], wanted)
            change = self._least(problem)
        return Injected.measured(network, images, {name: problem.base + change}, attacked, targets, kept)

    def _draw(self, scores: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Attacked (S,) and kept (T,) among the images that the logits (N, C) classify correctly, and targets (S,)."""
        right = (scores.argmax(1) == labels).nonzero().flatten()
        needed, classes = self.attacked + self.kept, scores.shape[1]
        if len(right) < needed:
            raise InputError(
                f"fault_sneaking: attacked={self.attacked} and kept={self.kept} need {needed} images that the network "
                f"classifies correctly, it does so for {len(right)} of {len(labels)}; lower kept or give more images"
            )
        if classes < 2:
            raise InputError("fault_sneaking: a network of one class has no wrong label to inject")
        order = right[torch.randperm(len(right), generator=generator)]
        attacked, kept = order[: self.attacked], order[self.attacked : needed]
        # Uniform over the C - 1 wrong labels: those from the true one on move up by one.
        others = torch.randint(classes - 1, (self.attacked,), generator=generator)
        return attacked, kept, others + (others >= labels[attacked])

    def _least(self, problem: _Problem) -> Tensor:
        """The least change of the tensor. Raises InputError where no penalty leaves a solution."""
        change, everywhere = torch.zeros_like(problem.base), torch.ones_like(problem.base, dtype=torch.bool)
        for penalty in self.penalties:
            change, hit, same = self._search(problem, change, everywhere, penalty)
            if self._solved(hit, same):
                break
        else:
            raise InputError(
                f"fault_sneaking: {self.iterations} iterations on {problem.name} hit {hit} of {self.attacked} images "
                f"and kept {same} of {self.kept} ({self._enough} needed); raise iterations or learning_rate, or lower "
                "attacked or kept"
            )
        if self.norm == "l0":
            change = self._sparse(problem, change, penalty)
        return self._shrunk(problem, change)

    @property
    def _enough(self) -> int:
        return math.ceil(self.kept_share * self.kept)

    def _solved(self, hit: int, same: int) -> bool:
        return hit == self.attacked and same >= self._enough

    def _counts(self, leads: Tensor) -> tuple[int, int]:
        """Attacked images that reach (the slack of) the margin, and kept images whose prediction stays."""
        return int((leads[: self.attacked] >= self.slack * self.margin).sum()), int((leads[self.attacked :] > 0).sum())

    def _search(self, problem: _Problem, start: Tensor, support: Tensor, penalty: float) -> tuple[Tensor, int, int]:
        """The best solution met (most kept, then the shortest), else where it ended; attacked images hit, and kept."""
        change = start.clone()
        optimizer = torch.optim.Adam([change], lr=self.learning_rate)
        weights = torch.ones(self.attacked + self.kept)
        weights[: self.attacked] = self.weight
        best, reached, hit, same = change, (0, -math.inf), 0, 0
        for step in range(self.iterations + 1):
            leads, gradient = problem.descend(change, self.margin, weights)
            hit, same = self._counts(leads)
            now = (same, -float(change.square().sum()))
            if self._solved(hit, same) and now > reached:
                best, reached = change.clone(), now
            optimizer.param_groups[0]["lr"] = self.learning_rate * (1 - step / self.iterations)  # zero after the last
            change.grad = (gradient + 2 * penalty * change) * support
            optimizer.step()
        return (best, self.attacked, reached[0]) if reached[0] else (change, hit, same)

    def _sparse(self, problem: _Problem, change: Tensor, penalty: float) -> Tensor:
        """The fewest changed weights by bisection: keep the largest, search again on them."""
        most, least = int(change.count_nonzero()), 0  # a support that suffices, one that does not
        while most - least > 1:
            count = (most + least) // 2
            flat = torch.zeros(change.numel(), dtype=torch.bool, device=change.device)
            flat[change.abs().flatten().topk(count).indices] = True
            support = flat.view(change.shape)
            found, hit, same = self._search(problem, change * support, support, penalty)
            if self._solved(hit, same):
                change, most = found, count
            else:
                least = count
        return change

    def _shrunk(self, problem: _Problem, change: Tensor) -> Tensor:
        """The shortest change on the line to zero that hits as many attacked images and keeps as many others."""
        hit, same = self._counts(problem.leads(change))
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            less_hit, less_same = self._counts(problem.leads(middle * change))
            low, high = (low, middle) if less_hit >= hit and less_same >= same else (middle, high)
        return high * change


class _Problem:
    """The leads of the wanted logits as a function of one tensor's change, and their gradient.

    Attributes:
        name: The tensor's parameter name.
        base: Its value in the network.
    """

    def __init__(self, network: nn.Module, name: str, images: Tensor, wanted: Tensor) -> None:
        self.name = name
        self.base = network.get_parameter(name).detach().clone()
        self.wanted = wanted.to(self.base.device).split(CHUNK)
        self.pieces = [_piece(network, name, chunk.to(self.base.device)) for chunk in images.split(CHUNK)]

    def leads(self, change: Tensor) -> Tensor:
        """Wanted logit less the best other (S + T,)."""
        with torch.no_grad():
            return torch.cat([self._lead(index, change) for index in range(len(self.pieces))])

    def descend(self, change: Tensor, margin: float, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Leads (S + T,) and the gradient of the weighted hinges, summed over chunks, in the tensor's shape."""
        leads, gradient = [], torch.zeros_like(change)
        for index, weight in enumerate(weights.to(change.device).split(CHUNK)):
            variable = change.detach().requires_grad_(True)
            lead = self._lead(index, variable)
            loss = (weight * (margin - lead).clamp_min(0)).sum()
            gradient += torch.autograd.grad(loss, variable)[0]
            leads.append(lead.detach())
        return torch.cat(leads), gradient

    def _lead(self, index: int, change: Tensor) -> Tensor:
        module, name, inputs = self.pieces[index]
        fixed = {other: parameter.detach() for other, parameter in module.named_parameters()}
        scores = functional_call(module, fixed | {name: self.base + change}, inputs)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        wanted = self.wanted[index].unsqueeze(1)
        best_other = scores.scatter(1, wanted, -math.inf).amax(1)
        lead: Tensor = scores.gather(1, wanted).squeeze(1) - best_other
        return lead


@torch.no_grad()
def _piece(network: nn.Module, name: str, images: Tensor) -> tuple[nn.Module, str, tuple[Tensor, ...]]:
    """The part of the network that a change of the tensor needs: (module, the tensor's name in it, its inputs).

    Where the module that owns the tensor gives the logits, as a last layer does, what comes before it is computed once;
    else it is the whole network on the images.
    """
    owner_name, _, leaf = name.rpartition(".")
    owner = network.get_submodule(owner_name)
    calls: list[tuple[tuple[Tensor, ...], Tensor]] = []
    handle = owner.register_forward_hook(lambda _module, inputs, output: calls.append((inputs, output)))
    try:
        scores = network(images)
    finally:
        handle.remove()
    tensor = network.get_parameter(name)
    uses = [other for other, parameter in network.named_parameters(remove_duplicate=False) if parameter is tensor]
    last = len(calls) == 1 and calls[0][1] is scores and len(uses) == 1
    # The comparison finds logits that were changed in place behind the layer.
    if last and torch.equal(owner(*calls[0][0]), scores):
        return owner, leaf, calls[0][0]
    return network, name, (images,)

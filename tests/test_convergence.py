"""Whether an attack's starts end at one place, and the wide network that a theorem about it speaks of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor, nn

from mcr.architectures.two_layer import TwoLayer
from mcr.attacks.evasion import Maximizer
from mcr.attacks.fgsm import Fgsm
from mcr.attacks.pgd import Pgd
from mcr.attacks.square import Square
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.probes.attack_convergence import AttackConvergence, least_cosine

PGD = Pgd(eps=0.2, step_size=0.02, steps=60, norm="l2", start="random", restarts=1)


def grey(count: int = 6, side: int = 4) -> EvaluationBatches:
    """Images about the middle, so that no attack of this size meets the ends of the pixels."""
    images = torch.randint(110, 146, (count, 1, side, side), generator=generator(2), dtype=torch.uint8)
    return EvaluationBatches(images, torch.arange(count) % 2, 4, "contiguous")


class Even(nn.Module):
    """Its logits are even in one direction about the image that it is given: two maxima, opposite each other."""

    def __init__(self, centre: Tensor) -> None:
        super().__init__()
        self.centre, self.along = centre, torch.randn(16, generator=generator(1))

    def forward(self, images: Tensor) -> Tensor:
        away = (images - self.centre).flatten(1) @ self.along
        return torch.stack([-(away**2), away**2], 1)


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))


def asked(network: nn.Module, attack: Maximizer, starts: int = 4, data: EvaluationBatches | None = None) -> dict:
    return AttackConvergence(attack, starts)(network.eval(), data or grey(), generator(0, "attack"))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_linear_network_has_one_maximum_on_the_edge(norm: str) -> None:
    found = asked(linear(), replace(PGD, norm=norm))
    assert found["least_cosine"].min() > 0.999
    assert found["loss_spread"].max() < 1e-5
    assert torch.equal(found["on_edge"], torch.ones(6, dtype=torch.float64))
    assert found["disagreement"].sum() == 0


def test_an_even_network_has_two() -> None:
    data = EvaluationBatches(torch.full((5, 1, 4, 4), 127, dtype=torch.uint8), torch.zeros(5).long(), 5, "contiguous")
    found = asked(Even(torch.full((1, 1, 4, 4), 127 / 255)), PGD, starts=8, data=data)
    assert found["least_cosine"].max() < -0.999
    assert found["loss_spread"].max() < 1e-4
    assert torch.equal(found["on_edge"], torch.ones(5, dtype=torch.float64))


def test_a_radius_of_nothing_leaves_nothing_to_differ() -> None:
    found = asked(linear(), replace(PGD, eps=0.0))
    assert torch.equal(found["least_cosine"], torch.ones(6, dtype=torch.float64))
    assert found["loss_spread"].abs().max() == 0


@dataclass(frozen=True)
class Told(Maximizer):
    """Ends where it is told, one start after the other."""

    moves: Tensor
    eps: float = 0.1
    norm: str = "l2"
    taken: list[int] = field(default_factory=list)

    def candidates(self, classifier, images, labels, draw):
        raise NotImplementedError

    def shrunk(self, share):
        raise NotImplementedError

    def maximize(self, loss, images: Tensor, draw: torch.Generator) -> Tensor:
        self.taken.append(len(self.taken))
        return images + self.moves[len(self.taken) - 1]


def test_all_four_numbers_are_their_definitions() -> None:
    data = grey(count=4)
    moves = 0.02 * torch.randn(3, 4, 1, 4, 4, generator=generator(4))
    moves[0, 1] = 0  # one that does not move
    moves[:, 3] = moves[0, 3]  # three that are one
    moves[1, 2] *= 0.1 / moves[1, 2].norm()
    network = linear()
    with torch.no_grad():
        network[1].bias.copy_(-0.5 * network[1].weight.sum(1))  # grey lies between the classes
    found = AttackConvergence(Told(moves), 3)(network, data, generator(0))
    for image in range(4):
        clean, label = data.images[image].double() / 255, int(data.labels[image])
        losses, broken, on_edge = [], [], []
        for start in range(3):
            with torch.no_grad():
                logits = network((clean.float() + moves[start, image])[None])
            losses.append(float(nn.functional.cross_entropy(logits, torch.tensor([label]))))
            broken.append(int(logits.argmax()) != label)
            on_edge.append(float(moves[start, image].norm()) >= 0.0999)
        flat = [moves[start, image].flatten().double() for start in range(3)]
        lengths = [float(one.norm()) for one in flat]
        cosines = [
            float(a @ b) / (m * n) if m and n else 0.0
            for i, (a, m) in enumerate(zip(flat, lengths, strict=True))
            for b, n in zip(flat[i + 1 :], lengths[i + 1 :], strict=True)
        ]
        assert float(found["loss_spread"][image]) == pytest.approx(max(losses) - min(losses), abs=1e-5)
        assert bool(found["disagreement"][image]) == (any(broken) and not all(broken))
        assert float(found["on_edge"][image]) == pytest.approx(sum(on_edge) / 3)
        assert float(found["least_cosine"][image]) == pytest.approx(min(cosines), abs=1e-4)
    assert 0 < float(found["disagreement"].sum()) < 4
    assert 0 < float(found["on_edge"].sum()) < 4


def test_two_perturbations_that_are_nothing_are_alike() -> None:
    moves = torch.zeros(2, 3, 5)
    moves[0, 1], moves[:, 2] = torch.ones(5), torch.ones(5)
    assert least_cosine(moves).tolist() == pytest.approx([1.0, 0.0, 1.0])


def test_attacks_without_random_starts_are_refused() -> None:
    square = Square(eps=0.1, norm="linf", queries=10, first_share=0.8)
    for attack in (replace(PGD, start="zero"), Fgsm(eps=0.1, norm="linf"), square):
        with pytest.raises(InputError, match="compares random starts"):
            AttackConvergence(attack, 3)
    with pytest.raises(InputError, match="starts=1 must be at least 2"):
        AttackConvergence(PGD, 1)


def wide(scale: float, smooth: str = "tanh", seed: int = 0) -> TwoLayer:
    torch.manual_seed(seed)
    return TwoLayer(300, smooth, scale, 2, 1, (4, 4))


@pytest.mark.parametrize("smooth", ["tanh", "softplus"])
def test_a_two_layer_network_is_its_formula(smooth: str) -> None:
    network, images = wide(2.5, smooth).double(), torch.randn(7, 1, 4, 4, generator=generator(0)).double()
    signs, weights = network.last.weight.detach(), network.first.weight.detach()
    assert set(signs.flatten().tolist()) == {-1.0, 1.0}
    assert float(weights.mean()) == pytest.approx(0, abs=0.05)
    assert float(weights.std()) == pytest.approx(1, abs=0.05)
    inner = 2.5 * torch.einsum("bp,rp->br", images.flatten(1), weights)
    value = inner.tanh() if smooth == "tanh" else (1 + inner.exp()).log()
    assert torch.allclose(network(images), torch.einsum("cr,br->bc", signs, value) / 300**0.5)
    assert torch.allclose(network(images), wide(1.0, smooth).double()(2.5 * images))


def test_wrong_words_of_a_two_layer_network_are_refused() -> None:
    with pytest.raises(InputError, match=r"architecture\.smooth=relu must be tanh or softplus"):
        wide(1.0, "relu")
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="scale="):
            wide(scale)


def test_at_a_small_scale_the_maximum_is_one_and_at_a_large_one_many() -> None:
    """Deng et al. (2020): the smaller the scale of the input, the more regular what the attack climbs."""
    least = {scale: asked(wide(scale), replace(PGD, eps=0.5, step_size=0.05))["least_cosine"] for scale in (0.1, 10.0)}
    assert least[0.1].median() > 0.999
    assert least[10.0].median() < 0

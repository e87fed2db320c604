"""Laws of attacks."""

from __future__ import annotations

import foolbox
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mcr.architectures.small_vgg import SmallVgg
from mcr.attacks.evasion import Evasion
from mcr.attacks.fgsm import Fgsm
from mcr.attacks.frozen import frozen
from mcr.attacks.pgd import Pgd
from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.objectives.adversarial import Adversarial
from mcr.probes.robust_risk import robust_risk

IMAGES = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(6) % 3


def pgd(**changes) -> Pgd:
    usual = {"eps": 0.1, "step_size": 0.03, "steps": 5, "norm": "linf", "start": "random", "restarts": 1}
    return Pgd(**(usual | changes))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3)).eval()


@settings(max_examples=30)
@given(
    eps=st.floats(0, 0.5),
    norm=st.sampled_from(["linf", "l2"]),
    start=st.sampled_from(["random", "zero"]),
    step=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_nothing_leaves_the_ball_or_the_unit_cube(network, eps, norm, start, step, seed) -> None:
    attack = pgd(eps=eps, step_size=step, norm=norm, start=start, steps=3)
    attacked = attack(network, IMAGES, LABELS, generator(seed, "attack"))
    delta = (attacked - IMAGES).flatten(1)
    length = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert (length <= eps + 1e-6).all()
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    assert not attacked.requires_grad


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_step_without_a_random_start_is_fgsm(network, norm) -> None:
    one = pgd(steps=1, step_size=0.1, start="zero", norm=norm)
    expected = Fgsm(0.1, norm)(network, IMAGES, LABELS, generator(0))
    assert torch.equal(one(network, IMAGES, LABELS, generator(0)), expected)


def test_on_a_linear_binary_model_pgd_reaches_the_closed_form() -> None:
    """Logits (0, w.x): the worst point of the linf ball is x -+ eps sign(w), of the l2 ball x -+ eps w / |w|."""
    weight = torch.randn(64, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    images = torch.full((2, 1, 8, 8), 0.5, dtype=torch.float64)
    labels = torch.tensor([0, 1])
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64).view(2, 1, 1, 1)

    def model(x: torch.Tensor) -> torch.Tensor:
        score = x.flatten(1) @ weight
        return torch.stack([torch.zeros_like(score), score], 1)

    worst = {"linf": weight.sign(), "l2": weight / weight.norm()}
    for norm, direction in worst.items():
        attack = pgd(norm=norm, steps=40, step_size=0.05, start="zero")
        expected = images + sign * 0.1 * direction.view(1, 1, 8, 8)
        torch.testing.assert_close(attack(model, images, labels, generator(0)), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("norm", "peer"), [("linf", foolbox.attacks.LinfPGD), ("l2", foolbox.attacks.L2PGD)])
def test_equal_to_foolbox_without_a_random_start(network, norm, peer) -> None:
    attack = pgd(norm=norm, start="zero", eps=0.3, step_size=0.1)
    other = peer(abs_stepsize=0.1, steps=5, random_start=False)
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    _, expected, _ = other(model, IMAGES, LABELS, epsilons=0.3)
    found = attack(network, IMAGES, LABELS, generator(0))
    if norm == "linf":
        assert torch.equal(found, expected)
    else:
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_more_restarts_never_lower_the_loss_and_follow_the_seed(network) -> None:
    def losses(restarts: int, seed: int = 0) -> torch.Tensor:
        attack = pgd(restarts=restarts, steps=1)
        return robust_risk(network, [(IMAGES, LABELS)], attack, generator(seed), "fp32", 0).losses

    assert (losses(5) >= losses(1) - 1e-6).all()
    assert torch.equal(losses(3), losses(3))
    assert not torch.equal(losses(3), losses(3, seed=1))


def test_the_worst_restart_counts_for_loss_and_accuracy_apart() -> None:
    """Restart one is misclassified with a low loss, restart two is right with a higher loss."""

    class Script(Evasion):
        def candidates(self, classifier, images, labels, generator):
            yield torch.zeros_like(images)
            yield torch.ones_like(images)

    class Table(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            narrow = torch.tensor([0.5, 0.6, -9.0])  # class 0 loses by a little
            wide = torch.tensor([0.0, -0.01, -0.01])  # class 0 wins with a higher loss
            return torch.where(x.flatten(1)[:, :1] > 0.5, wide, narrow)

    found = robust_risk(Table(), [(IMAGES[:1], LABELS[:1])], Script(), generator(0), "fp32", 1)
    assert torch.equal(found.images, torch.ones_like(IMAGES[:1]))
    assert found.hits.tolist() == [0.0]
    expected = nn.functional.cross_entropy(torch.tensor([[0.0, -0.01, -0.01]]), torch.tensor([0]))
    assert found.losses.tolist() == pytest.approx([float(expected)])


def test_results_do_not_depend_on_the_batch_split(network) -> None:
    whole = robust_risk(network, [(IMAGES, LABELS)], pgd(), generator(0), "fp32", 4)
    batches = [(IMAGES[:3], LABELS[:3]), (IMAGES[3:], LABELS[3:])]
    parts = robust_risk(network, batches, pgd(), generator(0), "fp32", 4)
    for name in ("losses", "hits", "images"):
        torch.testing.assert_close(getattr(whole, name), getattr(parts, name), rtol=1e-5, atol=1e-6)
    assert len(whole.images) == 4


def test_an_attack_leaves_the_network_as_it_was() -> None:
    network = SmallVgg(4, 3, 1).train()
    network.features[4].eval()  # a submodule with a mode of its own keeps it
    network.classifier.bias.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    with frozen(network):
        assert not network.training
        pgd()(network, torch.rand(6, 1, 16, 16), LABELS, generator(0))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert modes == [module.training for module in network.modules()]
    assert not network.classifier.bias.requires_grad
    assert network.classifier.weight.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_training_step_under_attack_updates_batchnorm_once() -> None:
    network = SmallVgg(4, 3, 1).train()
    Adversarial(pgd())(network, torch.rand(6, 1, 16, 16), LABELS, generator(0))
    counts = {int(m.num_batches_tracked) for m in network.modules() if isinstance(m, nn.BatchNorm2d)}
    assert counts == {1}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_an_attack_works_where_gradients_are_off(network, mode) -> None:
    with mode():
        attacked = pgd()(network, IMAGES, LABELS, generator(0))
    assert not torch.equal(attacked, IMAGES)


@pytest.mark.parametrize(
    "changes",
    [
        {"eps": -1},
        {"eps": float("nan")},
        {"norm": "l3"},
        {"steps": 0},
        {"start": "warm"},
        {"restarts": 0},
        {"restarts": 2, "start": "zero"},
    ],
)
def test_bad_settings_are_refused(changes) -> None:
    with pytest.raises(InputError):
        pgd(**changes)

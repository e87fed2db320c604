"""Laws of evasion attacks, those from libraries among them, and of the risk under them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from mcr.app.composition import conf_folder
from mcr.architectures.small_cnn import SmallCnn
from mcr.attacks import ball
from mcr.attacks.apgd import ApgdCe, ApgdT
from mcr.attacks.autoattack import AutoAttack
from mcr.attacks.carlini_wagner import CarliniWagner
from mcr.attacks.deepfool import DeepFool
from mcr.attacks.evasion import Evasion, ascend
from mcr.attacks.fmn import Fmn
from mcr.attacks.frozen import frozen
from mcr.attacks.pgd import GRAIN, Pgd
from mcr.attacks.square import Square
from mcr.errors import InputError
from mcr.numerics.losses import cross_entropy
from mcr.numerics.seeding import generator
from mcr.probes.robust_risk import robust_accuracy, robust_risk
from mcr.store.build import build
from mcr.types import Classifier

CONF = Path(__file__).parents[1] / "conf" / "attack"
CONFIGS: dict[str, dict[str, Any]] = {
    path.stem: yaml.safe_load(path.read_text()) for path in sorted(CONF.glob("*.yaml")) if path.stem != "none"
}
SMALL = {"steps": 5, "queries": 25, "searches": 2}  # enough for the laws
RADII = {"linf": 0.1, "l2": 0.5}
ONLY = {"carlini_wagner": ("l2",)}
CASES = [(name, norm) for name in CONFIGS for norm in ONLY.get(name, tuple(RADII))]
IMAGES = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(5) % 4

every_attack = pytest.mark.parametrize(("name", "norm"), CASES)


def make(name: str, norm: str, changes: dict[str, Any] | None = None) -> Any:
    """The attack of a configuration file, with few steps."""
    small = {key: value for key, value in SMALL.items() if key in CONFIGS[name]}
    return build({**CONFIGS[name], **small, "norm": norm, "eps": RADII[norm], **(changes or {})})


def pgd(**changes: Any) -> Pgd:
    usual = {"eps": 0.1, "step_size": 0.04, "steps": 4, "norm": "linf", "start": "random", "restarts": 1}
    return Pgd(**(usual | changes))


def linear(classes: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, classes)).eval()


@pytest.fixture
def network() -> nn.Module:
    """In training mode, with a submodule of another mode, a frozen parameter, and BatchNorm statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4)).train()
    made[3].eval()
    made[4].bias.requires_grad_(False)
    return made


def candidates(attack: Evasion, network: nn.Module, disturb: int = 0) -> list[Tensor]:
    """All candidates of the fixed images, whatever was drawn from the global generator before."""
    torch.manual_seed(disturb)
    with frozen(network):
        return list(attack.candidates(network, IMAGES.clone(), LABELS.clone(), generator(7)))


# ------------------------------------------------------------------------------------------------ every attack


@every_attack
def test_candidates_stay_in_the_ball_and_in_the_unit_cube_and_carry_no_gradient(name, norm, network) -> None:
    found = candidates(make(name, norm), network)
    assert found
    for points in found:
        delta = (points - IMAGES).flatten(1)
        lengths = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
        assert points.shape == IMAGES.shape
        assert points.dtype == IMAGES.dtype
        assert (lengths <= RADII[norm] + 1e-5).all()
        assert points.min() >= 0
        assert points.max() <= 1
        assert not points.requires_grad
        assert points.grad_fn is None


@every_attack
def test_an_attack_moves_some_image(name, norm, network) -> None:
    """Labels are those of the network, so that an attack that stops at misclassification has work to do."""
    with frozen(network), torch.no_grad():
        labels = network(IMAGES).argmax(1)
        attack = make(name, norm, {"steps": 50, "step_size": 0.1} if name == "carlini_wagner" else {})
        found = list(attack.candidates(network, IMAGES, labels, generator(7)))
    assert not all(torch.equal(points, IMAGES) for points in found)


@every_attack
def test_an_attack_leaves_network_inputs_and_the_global_generator_as_they_were(name, norm, network) -> None:
    tensors = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    learning = [parameter.requires_grad for parameter in network.parameters()]
    images, labels = IMAGES.clone(), LABELS.clone()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with frozen(network):
        list(make(name, norm).candidates(network, images, labels, generator(7)))
        assert not any(module.training for module in network.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensors[key], value) for key, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == learning
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(images, IMAGES)
    assert torch.equal(labels, LABELS)
    assert not images.requires_grad


@every_attack
def test_the_generator_alone_decides_the_draws(name, norm, network) -> None:
    """Whatever was drawn before from the global generator."""
    attack = make(name, norm)
    first, second = candidates(attack, network, disturb=1), candidates(attack, network, disturb=2)
    assert len(first) == len(second)
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize(("name", "norm"), [case for case in CASES if case[0] in ("apgd_ce", "pgd", "square")])
def test_another_seed_is_another_draw(name, norm, network) -> None:
    """At the first step, where no other point than the start decides."""
    attack = make(name, norm, {"queries": 1} if name == "square" else {"steps": 1})
    torch.manual_seed(0)
    with frozen(network), torch.no_grad():
        labels = network(IMAGES).argmax(1)
        found = []
        for seed in (1, 2):
            torch.manual_seed(0)
            found.append(list(attack.candidates(network, IMAGES, labels, generator(seed))))
    assert not all(map(torch.equal, *found))


@every_attack
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_an_attack_does_the_same_where_gradients_are_off(name, norm, mode, network) -> None:
    attack = make(name, norm)
    expected = candidates(attack, network)
    with mode():
        found = candidates(attack, network)
    assert len(found) == len(expected)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize(("name", "norm"), [case for case in CASES if case[0] != "pgd"])
def test_what_stands_is_right_before_and_after_every_candidate(name, norm, network) -> None:
    """PGD also looks at the points between: see below."""
    attack = make(name, norm)
    with frozen(network), torch.no_grad():
        labels = network(IMAGES).argmax(1)
        labels[0] = (labels[0] + 1) % 4
        torch.manual_seed(0)
        found = [network(points).argmax(1) == labels for points in _points(attack, network, labels)]
        torch.manual_seed(0)
        unbroken = attack.unbroken(network, IMAGES, labels, generator(7), network, len(IMAGES))
    assert torch.equal(unbroken, torch.stack(found).all(0))
    assert not unbroken[0]


def test_an_image_that_was_wrong_before_the_attack_does_not_stand_after_it() -> None:
    """Whatever the attack makes of it."""

    class Helpful(Evasion):
        def candidates(self, classifier, images, labels, generator):
            yield torch.ones_like(images)

    def bright(images: Tensor) -> Tensor:
        return torch.stack([0.5 - images.mean((1, 2, 3)), images.mean((1, 2, 3)) - 0.5], 1)

    images = torch.stack([torch.full((1, 2, 2), value) for value in (0.2, 0.8)])
    unbroken = Helpful().unbroken(bright, images, torch.ones(2, dtype=torch.int64), generator(0), bright, len(images))
    assert unbroken.tolist() == [False, True]


def _points(attack: Evasion, network: nn.Module, labels: Tensor) -> list[Tensor]:
    return [IMAGES, *attack.candidates(network, IMAGES, labels, generator(7))]


# ---------------------------------------------------------------------------------------------- class counts


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize(("name", "norm"), [case for case in CASES if case[0] not in ("apgd_t", "autoattack")])
def test_any_number_of_classes_will_do(name, norm, classes) -> None:
    network, attack = linear(classes), make(name, norm)
    assert attack.least_classes == 2
    with torch.no_grad():
        labels = network(IMAGES).argmax(1)
    risk = robust_risk(network, [(IMAGES, labels)], attack, generator(0), "fp32", 0)
    assert risk.hits.shape == risk.losses.shape == (5,)
    assert risk.losses.isfinite().all()


def test_the_extra_attacks_is_executed_in_its_authors_own_code(monkeypatch) -> None:
    """pyautoattack and foolbox do the work, not something of ours under their names."""
    from foolbox.attacks import LinfDeepFoolAttack
    from pyautoattack.autopgd_base import APGDAttack

    called: list[str] = []

    def spied(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: called.append(name) or original(*args, **kwargs)

    monkeypatch.setattr(APGDAttack, "perturb", spied("pyautoattack", APGDAttack.perturb))
    monkeypatch.setattr(LinfDeepFoolAttack, "run", spied("foolbox", LinfDeepFoolAttack.run))
    network = linear(4)
    with torch.no_grad():
        labels = network(IMAGES).argmax(1)
    for name in ("apgd_ce", "deepfool"):
        robust_risk(network, [(IMAGES, labels)], make(name, "linf"), generator(0), "fp32", 0)
    assert set(called) == {"pyautoattack", "foolbox"}


@pytest.mark.parametrize("classes", [4, 10])
@pytest.mark.parametrize("name", ["apgd_t", "autoattack"])
def test_targeted_attacks_aim_at_every_wrong_class_of_four_or_more(name, classes) -> None:
    """Some images fall and some stand, so that every part of the ensemble has its turn."""
    network, attack = linear(classes), make(name, "linf", {"eps": 0.045})
    assert attack.least_classes == 4
    images = IMAGES[:4]
    with torch.no_grad():
        labels = network(images).argmax(1)
    hits = robust_risk(network, [(images, labels)], attack, generator(0), "fp32", 0).hits
    assert 0 < hits.sum() < 4
    simple = robust_risk(network, [(images, labels)], pgd(eps=0.045), generator(0), "fp32", 0).hits
    assert (hits <= simple).all()


# ------------------------------------------------------------------------------------------- refused settings

LIBRARIES: dict[type[Evasion], dict[str, Any]] = {
    ApgdCe: {"steps": 5, "restarts": 1},
    ApgdT: {"steps": 5},
    AutoAttack: {},
    Square: {"queries": 5, "first_share": 0.8},
    DeepFool: {"steps": 5, "overshoot": 0.02},
    Fmn: {"steps": 5},
    CarliniWagner: {"steps": 5, "searches": 1, "step_size": 0.1, "confidence": 0.0},
}


def test_every_configured_attack_but_the_projects_own_is_among_the_libraries() -> None:
    configured = {config["_target_"].rsplit(".", 1)[1] for config in CONFIGS.values()}
    assert configured == {kind.__name__ for kind in LIBRARIES} | {"Pgd", "Fgsm"}


@pytest.mark.parametrize("kind", LIBRARIES)
def test_a_missing_library_is_named_with_what_to_install(kind, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install"):
        kind(eps=0.1, norm="l2", **LIBRARIES[kind])


@every_attack
@pytest.mark.parametrize("wrong", [{"eps": -1}, {"eps": float("nan")}, {"eps": float("inf")}, {"norm": "l1"}])
def test_a_wrong_norm_or_radius_is_refused(name, norm, wrong) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        make(name, norm, wrong)


def test_carlini_and_wagners_attack_is_refused_in_the_linf_norm() -> None:
    with pytest.raises(InputError, match="norm=linf must be l2"):
        make("carlini_wagner", "linf")


# ------------------------------------------------------------------------ Pgd.unbroken against a slow oracle


class Counted(nn.Module):
    """A small curved network in float64, where a batch's size changes no decision; counts calls and images."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.first = torch.randn(64, 16, dtype=torch.float64, generator=draw)
        self.second = torch.randn(16, 3, dtype=torch.float64, generator=draw) / 4
        self.calls = self.images = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls, self.images = self.calls + 1, self.images + len(images)
        return ((images.double() - 0.5).flatten(1) @ self.first).sin() @ self.second


MANY = torch.rand(24, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def truth(network: nn.Module) -> Tensor:
    """The network's own labels, but for two images: so most are right at first."""
    labels = network(MANY).argmax(1)
    labels[:2] = (labels[:2] + 1) % 3
    return labels


def visited(
    attack: Pgd, classifier: Classifier, images: Tensor, labels: Tensor, draw: torch.Generator
) -> Iterator[Tensor]:
    """Every point of every restart, of all images."""
    for _ in range(attack.restarts):
        random = attack.start == "random"
        current = ball.random_point(images, attack.eps, attack.norm, draw) if random else images.clone()
        yield current
        for _ in range(attack.steps):
            leaf = current.clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(cross_entropy(classifier(leaf), labels).sum(), leaf)
            if attack.norm == "linf":
                current = current + attack.step_size * gradient.sign()
                current = torch.max(torch.min(current, images + attack.eps), images - attack.eps).clamp(0, 1)
            else:
                unit = gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                delta = current + attack.step_size * unit - images
                length = delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                current = (images + delta * (attack.eps / length).clamp(max=1)).clamp(0, 1)
            yield current


def weak(**changes: Any) -> Pgd:
    """An attack after which some images of ``MANY`` have fallen and some stand."""
    return pgd(**({"eps": 0.02, "step_size": 0.008} | changes))


SETTINGS = {
    "one try": weak(),
    "three tries": weak(restarts=3, steps=2),
    "from the image": weak(start="zero", steps=6),
    "l2": weak(norm="l2", eps=0.12, step_size=0.04, restarts=2),
    "overshooting": weak(step_size=0.036, steps=7),
}
every_setting = pytest.mark.parametrize("attack", SETTINGS.values(), ids=SETTINGS)


@every_setting
@pytest.mark.parametrize("seed", range(3))
def test_what_stands_is_right_at_every_point_that_the_attack_visits(attack, seed) -> None:
    network = Counted(seed)
    labels = truth(network)
    expected = network(MANY).argmax(1) == labels
    work = len(MANY)
    for points in visited(attack, network, MANY, labels, generator(seed)):
        work += min(len(MANY), -(-int(expected.sum()) // GRAIN) * GRAIN)
        expected &= network(points).argmax(1) == labels
    network.calls = network.images = 0
    found = attack.unbroken(network, MANY, labels, generator(seed), network, len(MANY))
    assert torch.equal(found, expected)
    assert not found[:2].any()
    # One pass over the images, then one for each point of the images that still stand, in whole grains: none to look
    # again.
    assert network.images == work
    assert network.calls <= 1 + attack.restarts * (attack.steps + 1)


def test_the_comparisons_see_images_that_stand_that_fall_and_that_only_seem_to_stand() -> None:
    """Otherwise they would say little: some images are right at the last point and broken before it."""
    seeming = 0
    for seed in range(3):
        network = Counted(seed)
        labels = truth(network)
        for attack in SETTINGS.values():
            points = visited(attack, network, MANY, labels, generator(seed))
            right = torch.stack([network(point).argmax(1) == labels for point in points])
            assert 0 < right.all(0).sum() < len(MANY) - 2
            seeming += int((right[-1] & ~right.all(0)).sum())
    assert seeming > 3


@every_setting
@pytest.mark.parametrize("seed", range(3))
def test_no_more_images_stand_than_are_right_clean_and_at_the_worst_candidates(attack, seed) -> None:
    network = Counted(seed)
    labels = truth(network)
    hits = robust_risk(network, [(MANY, labels)], attack, generator(seed), "fp32", 0).hits.bool()
    unbroken = robust_accuracy(network, [(MANY, labels)], attack, generator(seed), "fp32").bool()
    assert not (unbroken & ~(hits & (network(MANY).argmax(1) == labels))).any()


def test_what_stands_does_not_depend_on_the_batch_split_without_random_starts() -> None:
    network, attack = Counted(1), weak(start="zero", steps=6)
    labels = truth(network)
    whole = robust_accuracy(network, [(MANY, labels)], attack, generator(0), "fp32")
    parts = list(zip(MANY.split([1, 7, 16]), labels.split([1, 7, 16]), strict=True))
    assert torch.equal(robust_accuracy(network, parts, attack, generator(0), "fp32"), whole)


def test_random_starts_do_not_depend_on_which_images_are_left() -> None:
    """A generator is as far after a batch that broke at once as after one that stood."""
    network, attack = Counted(1), weak(restarts=3)
    states = []
    for labels in (truth(network), (network(MANY).argmax(1) + 1) % 3):
        draw = generator(0)
        attack.unbroken(network, MANY, labels, draw, network, len(MANY))
        states.append(draw.get_state())
    assert torch.equal(*states)


@every_setting
@pytest.mark.parametrize("seed", range(2))
def test_a_cheap_classifier_that_calls_everything_broken_loses_no_image_that_the_judge_calls_right(
    attack, seed
) -> None:
    judge = Counted(seed)
    labels = truth(judge)

    def cheap(points: Tensor) -> Tensor:
        """One more class, which always wins; the slope of the loss is that of the label's logit."""
        logits = judge(points)
        return torch.cat([logits, torch.full_like(logits[:, :1], 99.0)], 1)

    expected = judge(MANY).argmax(1) == labels
    for points in visited(attack, cheap, MANY, labels, generator(seed)):
        expected &= judge(points).argmax(1) == labels
    assert torch.equal(attack.unbroken(cheap, MANY, labels, generator(seed), judge, len(MANY)), expected)
    assert expected.any()


@pytest.mark.parametrize("seed", range(2))
def test_a_cheap_classifier_that_calls_everything_right_leaves_the_last_word_to_the_judge(seed) -> None:
    judge, attack = Counted(seed), weak(steps=6)
    images, labels = MANY[2:], truth(judge)[2:]
    lift = 20.0 * nn.functional.one_hot(labels, 3)

    def cheap(points: Tensor) -> Tensor:
        return judge(points) + lift

    *_, last = visited(attack, cheap, images, labels, generator(seed))
    expected = judge(last).argmax(1) == labels
    assert 0 < expected.sum() < len(images)
    assert torch.equal(attack.unbroken(cheap, images, labels, generator(seed), judge, len(images)), expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_stands_is_the_same_where_gradients_are_off(network, mode, precision) -> None:
    with frozen(network), torch.no_grad():
        labels = network(IMAGES).argmax(1)
    attack = pgd(restarts=2, eps=0.03)
    expected = robust_accuracy(network, [(IMAGES, labels)], attack, generator(0), precision)
    with mode():
        batches = [(IMAGES.clone(), labels.clone())]
        found = robust_accuracy(network, batches, attack, generator(0), precision)
        risk = robust_risk(network, batches, attack, generator(0), precision, 0)
    assert torch.equal(found, expected)
    assert (found <= risk.hits).all()


def test_an_early_stop_does_less_work() -> None:
    network, attack = Counted(0), pgd(eps=0.4, step_size=0.2, steps=10, restarts=2)
    batches = [(MANY, truth(network))]
    network.images = 0
    robust_risk(network, batches, attack, generator(0), "fp32", 0)
    full, network.images = network.images, 0
    robust_accuracy(network, batches, attack, generator(0), "fp32")
    assert full == len(MANY) * attack.restarts * (attack.steps + 1)
    assert network.images < full / 2


def test_gradients_are_those_of_the_loss_and_leave_the_point_alone() -> None:
    point = torch.rand(3, 1, 2, 2)
    values, gradient = ascend(lambda x: (x**3).sum((1, 2, 3)), point)
    torch.testing.assert_close(gradient, 3 * point**2)
    torch.testing.assert_close(values, (point**3).sum((1, 2, 3)))
    assert not values.requires_grad
    assert not point.requires_grad


# -------------------------------------------------------------------------------------------------- precision


class Scored(nn.Module):
    """Remembers in which types a network answered outside autocast, and whether it was asked under it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.scored, self.cheap = network, set(), 0

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        if torch.is_autocast_enabled("cpu"):
            self.cheap += 1
        else:
            self.scored.add(logits.dtype)
        return logits


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """A small convolutional network that has learned most of a noisy task, and images of it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SmallCnn(8, 16, 4, 1, (8, 8))
        labels = torch.arange(64) % 4
        images = (0.3 + 0.4 * torch.rand(4, 1, 8, 8)[labels] + 0.2 * torch.rand(64, 1, 8, 8)).clamp(0, 1)
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
        optimizer.zero_grad()
    return network.eval(), images, labels


def test_gradients_in_bfloat16_give_nearly_the_loss_of_float32_and_are_scored_in_float32(trained) -> None:
    network, images, labels = Scored(trained[0]), *trained[1:]
    attack = pgd(eps=0.06, step_size=0.02, steps=6, restarts=2)
    full = robust_risk(network, [(images, labels)], attack, generator(0), "fp32", 0)
    assert network.cheap == 0
    assert network.scored == {torch.float32}
    network.scored.clear()
    half = robust_risk(network, [(images, labels)], attack, generator(0), "bf16", 0)
    assert network.cheap == attack.restarts * attack.steps
    assert network.scored == {torch.float32}
    assert half.losses.dtype == torch.float32
    assert 0 < full.hits.mean() < 1
    assert float(half.losses.mean()) == pytest.approx(float(full.losses.mean()), rel=0.02)
    assert not torch.equal(half.losses, full.losses)


def test_robust_accuracy_in_bfloat16_is_nearly_that_of_float32_and_judged_in_float32(trained) -> None:
    network, images, labels = Scored(trained[0]), *trained[1:]
    attack = pgd(eps=0.06, step_size=0.02, steps=6, restarts=2)
    full = robust_accuracy(network, [(images, labels)], attack, generator(0), "fp32")
    network.scored.clear()
    half = robust_accuracy(network, [(images, labels)], attack, generator(0), "bf16")
    assert network.cheap > 0
    assert network.scored == {torch.float32}
    assert 0 < full.mean() < 1
    assert abs(float(half.mean() - full.mean())) <= 2 / 64


@every_attack
def test_every_attack_can_be_made_on_a_network_in_bfloat16(name, norm, network) -> None:
    with frozen(network), torch.no_grad():
        labels = network(IMAGES).argmax(1)
    # A radius at which some images stand, but for the ensemble, which would take long: its parts are here themselves.
    attack = make(name, norm, {"eps": RADII[norm] / (1 if name == "autoattack" else 4)})
    risk = robust_risk(network, [(IMAGES, labels)], attack, generator(0), "bf16", 0)
    assert risk.losses.isfinite().all()
    assert risk.losses.dtype == torch.float32


# ------------------------------------------------------------------------------------- against the closed form


@pytest.mark.parametrize(
    "attack",
    [
        ApgdCe(eps=0.1, norm="linf", steps=20, restarts=1),
        Fmn(eps=0.1, norm="linf", steps=60),
        DeepFool(eps=0.1, norm="linf", steps=10, overshoot=0.02),
        pgd(steps=10),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_on_a_linear_binary_model_an_image_falls_where_its_margin_is_below_the_radius(attack) -> None:
    """Logits (0, w.x + b): broken in the linf ball if and only if the margin |w.x + b| is below eps |w|_1."""
    draw = torch.Generator().manual_seed(3)
    weight = torch.randn(64, generator=draw) / 8
    images = 0.3 + 0.4 * torch.rand(80, 1, 8, 8, generator=draw)  # the ball lies inside [0, 1]
    scores = images.flatten(1) @ weight
    shift = scores.median()
    images = images + (torch.linspace(-1, 1, 80) * 0.2).view(-1, 1, 1, 1) * weight.sign().view(1, 1, 8, 8)
    images = images.clamp(0.1, 0.9)

    def model(x: Tensor) -> Tensor:
        score = x.flatten(1) @ weight - shift
        return torch.stack([torch.zeros_like(score), score], 1)

    margins = model(images)[:, 1].abs() / (0.1 * weight.abs().sum())
    labels = model(images).argmax(1)
    # Not too near the ball's border, nor on the decision boundary, where rounding decides what a search begins with.
    clear = ((margins - 1).abs() > 0.1) & (margins > 0.01)
    broken = margins < 1
    assert (clear & broken).sum() >= 10
    assert (clear & ~broken).sum() >= 10
    unbroken = attack.unbroken(model, images, labels, generator(0), model, len(images))
    assert torch.equal(unbroken[clear], ~broken[clear])


@pytest.mark.parametrize("path", [p for p in sorted((conf_folder() / "attack").glob("*.yaml")) if p.stem != "none"])
def test_every_attack_takes_images_in_channels_last(path) -> None:
    torch.manual_seed(0)
    few = {"steps": 2, "queries": 4, "searches": 1, "restarts": 1, "eps": 0.9}
    config = yaml.safe_load(path.read_text())
    attack = build({**config, **{name: value for name, value in few.items() if name in config}})
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    ).eval()
    images = torch.rand(4, 3, 6, 6).contiguous(memory_format=torch.channels_last)
    labels = network(images).argmax(1)
    with frozen(network):
        for candidate in attack.candidates(network, images, labels, generator(0)):
            assert candidate.shape == images.shape

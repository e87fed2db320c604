"""Bounds on networks over boxes of images, against images from the boxes; the implicit layer against its equation."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mcr.app import cli
from mcr.architectures.mlp import Mlp
from mcr.architectures.nemon import Implicit, Nemon
from mcr.architectures.normalization import Normalized
from mcr.architectures.preresnet import PreResNet
from mcr.architectures.small_cnn import SmallCnn
from mcr.architectures.small_vgg import SmallVgg
from mcr.architectures.tnn import Tnn
from mcr.architectures.vit import VitTiny
from mcr.attacks.frozen import frozen
from mcr.bounds.box import Box, around
from mcr.bounds.interval import margins
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.objectives.certified import Certified
from mcr.probes.certified_risk import CertifiedRisk
from mcr.stages import suited
from mcr.stages.artifacts import DataSpec
from mcr.store.stage import Stage
from mcr.weightspace.batchnorm import refresh
from tests.conftest import TINY

CLASSES, SIDE = 3, 8


def implicit(inputs: int = 6, units: int = 5, seed: int = 0, measure: float = 0.0, iterations: int = 9000) -> Implicit:
    """With weights of some size in every part, float64."""
    torch.manual_seed(seed)
    layer = Implicit(inputs, units, measure, 1e-12, iterations).double()
    for parameter in layer.parameters():
        parameter.data += 0.6 * torch.randn_like(parameter)
    return layer


def nemon(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network = Nemon(8, 0.0, 1e-12, 9000, CLASSES, 1, (SIDE, SIDE))
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return network


class Odd(nn.Module):
    """Operators and methods beside layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        found = -2.0 * functional.relu(self.conv(images)) + 1
        found = (found - images) / -3.0 + torch.sigmoid(found)
        found = functional.max_pool2d(found, 2).mean(3)
        return self.last(found.relu().mean(2).view(images.size(0), found.shape[1]))


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    return SmallCnn(4, 8, CLASSES, 1, (SIDE, SIDE))


NETWORKS = {
    "nemon": nemon,
    "mlp": lambda: Mlp([6, 5], CLASSES, 1, (SIDE, SIDE)),
    "tnn": lambda: Tnn("plain", 4, 1, 0.25, CLASSES, 1, (SIDE, SIDE)),
    "tnn_leapfrog": lambda: Tnn("leapfrog", 4, 3, 0.25, CLASSES, 1, (SIDE, SIDE)),
    "small_cnn": convolutional,
    "small_vgg": lambda: SmallVgg(4, CLASSES, 1),
    "preresnet": lambda: PreResNet(8, CLASSES, 1),
    "odd": Odd,
}


def network_of(name: str) -> nn.Module:
    """In evaluation mode, behind a normalisation, with BatchNorm statistics that are its own; float64."""
    torch.manual_seed(1)
    network = Normalized(NETWORKS[name](), [0.3], [0.4]).double()
    refresh(network, [torch.rand(16, 1, SIDE, SIDE, dtype=torch.float64)])
    return network.eval()


IMAGES = torch.rand(5, 1, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
LABELS = torch.tensor([0, 1, 2, 0, 2])


def differences(logits: Tensor) -> Tensor:
    return logits.gather(1, LABELS[:, None]) - logits


@pytest.mark.parametrize("name", NETWORKS)
def test_no_image_of_the_box_has_a_smaller_margin(name: str) -> None:
    """Corners, inner images, and those that an attack finds."""
    network, eps, draw = network_of(name), 0.04, torch.Generator().manual_seed(3)
    least, box = margins(network, IMAGES, LABELS, eps), around(IMAGES, eps)
    for number in range(60):
        share = torch.rand(IMAGES.shape, generator=draw, dtype=torch.float64)
        share = share.round() if number % 2 else share
        found = differences(network(box.lower + share * (box.upper - box.lower)))
        assert bool((found >= least - 1e-9).all())
    point = IMAGES.clone().requires_grad_()
    with frozen(network):
        for _ in range(8):
            worst = differences(network(point)).sum()
            (slope,) = torch.autograd.grad(worst, point)
            moved = (point - 0.02 * slope.sign()).detach()
            point = torch.maximum(torch.minimum(moved, box.upper), box.lower).requires_grad_()
    assert bool((differences(network(point)) >= least - 1e-9).all())


@pytest.mark.parametrize("name", NETWORKS)
def test_without_a_radius_margins_are_those_of_the_image_and_they_fall_with_it(name: str) -> None:
    network = network_of(name)
    found = [margins(network, IMAGES, LABELS, eps) for eps in (0.0, 0.02, 0.05)]
    assert torch.allclose(found[0], differences(network(IMAGES)), atol=1e-8)
    assert bool((found[1] <= found[0] + 1e-8).all())
    assert bool((found[2] <= found[1] + 1e-8).all())
    assert bool((found[2] < found[1] - 1e-6).any())
    assert all(bool((one.gather(1, LABELS[:, None]) == 0).all()) for one in found)


def test_pixels_stay_in_their_range() -> None:
    box = around(torch.tensor([0.0, 0.5, 1.0]), 0.25)
    assert box.lower.tolist() == [0.0, 0.25, 0.75]
    assert box.upper.tolist() == [0.25, 0.75, 1.0]


def test_differences_of_the_last_layer_are_bounded_more_tightly_than_two_logits() -> None:
    """The same network with a layer behind it that changes nothing."""
    network = Mlp([6, 5], CLASSES, 1, (SIDE, SIDE)).double()
    apart = margins(nn.Sequential(network, nn.Identity()), IMAGES, LABELS, 0.05)
    together = margins(network, IMAGES, LABELS, 0.05)
    others = torch.ones_like(apart).scatter(1, LABELS[:, None], 0).bool()
    assert bool((together >= apart - 1e-12).all())
    assert float((together - apart).detach()[others].mean()) > 1e-3


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (VitTiny(4, 1, 16, 2, 0.0, CLASSES, 1, (SIDE, SIDE)), "bounds: "),
        (nn.Sequential(nn.Flatten(), nn.Softmax(1)), "no bound is known for Softmax 1"),
        (nn.Sequential(nn.Flatten(), nn.LeakyReLU(-0.5)), "no bound is known for LeakyReLU 1"),
        (nn.Sequential(nn.Conv2d(1, 3, SIDE), nn.BatchNorm2d(3), nn.Flatten()), "BatchNorm2d 1 in training mode"),
    ],
    ids=["attention", "softmax", "a slope that falls", "batch statistics"],
)
def test_what_has_no_bound_is_refused(network: nn.Module, said: str) -> None:
    with pytest.raises(InputError, match=said):
        margins(network.double(), IMAGES, LABELS, 0.1)


def test_a_graph_follows_the_weights_and_the_mode_of_its_network() -> None:
    network = network_of("small_vgg")
    with pytest.raises(InputError, match="in training mode"):
        margins(network.train(), IMAGES, LABELS, 0.0)
    network.eval()
    before = margins(network, IMAGES, LABELS, 0.0)
    for parameter in network.parameters():
        parameter.data *= 1.5
    after = margins(network, IMAGES, LABELS, 0.0)
    assert not torch.allclose(before, after)
    assert torch.allclose(after, differences(network(IMAGES)))


class Branched(nn.Module):
    """Two layers, and in between what a subclass does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.flat, self.a, self.b = nn.Flatten(), nn.Linear(SIDE * SIDE, 6), nn.Linear(6, 6)
        self.norm, self.rest, self.last = nn.Identity(), nn.ReLU(inplace=True), nn.Linear(6, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.between(self.a(self.flat(images))))


class Kept(Branched):
    def between(self, h: Tensor) -> Tensor:
        out = self.b(h)
        out += h  # as residual networks do: what changes is not read again
        return out


class Twice(Branched):
    def between(self, h: Tensor) -> Tensor:
        skip = h
        h += self.b(h)
        return h + skip


class ThroughViews(Branched):
    def between(self, h: Tensor) -> Tensor:
        view = self.norm(h.view(-1, 2, 3))
        flat = h[:, :4]
        flat *= 2.0
        return view.flatten(1) + 1.0


class Rectified(Branched):
    def between(self, h: Tensor) -> Tensor:
        return self.rest(h) + h  # both are the rectified one


class Listed(Branched):
    def between(self, h: Tensor) -> Tensor:
        return torch.cat([h.relu(), h], 1)[:, :6]


class Named(Branched):
    def between(self, h: Tensor) -> Tensor:
        return self.b(input=h).view(h.size(dim=0), -1).to(h.dtype)


class Facts(Branched):
    def between(self, h: Tensor) -> Tensor:
        return h + torch.ones(6, dtype=h.dtype, device=h.device)


class Pair(Branched):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        h = self.a(self.flat(images))
        return self.last(h), h


class Deaf(Branched):
    def forward(self, images: Tensor) -> Tensor:
        return self.last.bias.expand(5, -1)


@pytest.mark.parametrize("kind", [Kept, Rectified, Facts])
def test_what_is_changed_in_place_and_not_read_again_has_its_bounds(kind: type[nn.Module]) -> None:
    network = kind().double().eval()
    assert torch.allclose(margins(network, IMAGES, LABELS, 0.0), differences(network(IMAGES)), atol=1e-9)
    least = margins(network, IMAGES, LABELS, 0.03)
    draw = torch.Generator().manual_seed(8)
    for _ in range(30):
        moved = (IMAGES + 0.03 * (2 * torch.rand(IMAGES.shape, generator=draw, dtype=torch.float64) - 1)).clamp(0, 1)
        assert bool((differences(network(moved)) >= least - 1e-9).all())


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (Twice(), "torch.fx traces another network than this"),
        (ThroughViews(), "torch.fx traces another network than this"),
        (Listed(), "no bound is known for cat"),
        (Named(), "no bound is known for to"),
        (Pair(), "must answer with one tensor of logits"),
        (Deaf(), "must answer with one tensor of logits"),
        (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(SIDE**2, track_running_stats=False)), "without running statistics"),
        (nn.Sequential(nn.Flatten(), nn.Softmax(1)).train(), "Softmax 1; probe="),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_refusal_is_one_line_that_says_why(network: nn.Module, said: str) -> None:
    mode = network.training
    with pytest.raises(InputError, match=said) as caught:
        margins(network.double().train(mode and "Softmax" in said), IMAGES, LABELS, 0.1)
    assert "\n" not in str(caught.value)


def test_a_graph_follows_the_layers_of_its_network() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES)).double().eval()
    margins(network, IMAGES, LABELS, 0.0)
    network.append(nn.Linear(CLASSES, CLASSES).double())
    assert torch.allclose(margins(network, IMAGES, LABELS, 0.0), differences(network(IMAGES)))
    network.append(nn.Dropout()).eval()
    assert torch.allclose(margins(network, IMAGES, LABELS, 0.0), differences(network(IMAGES)))
    network[3].train()
    with pytest.raises(InputError, match="Dropout 3 in training mode"):
        margins(network, IMAGES, LABELS, 0.0)


# The implicit layer


def test_the_solution_solves_the_equation_from_any_start() -> None:
    layer, images = implicit(), torch.randn(7, 6, dtype=torch.float64)
    solution, matrix = layer(images), layer.matrix()
    assert torch.allclose(solution, (solution @ matrix.T + layer.drive(images)).relu(), atol=1e-10)
    step = 0.3 / (1 - min(0.0, float(matrix.detach().diagonal().min())))  # another one
    other = 10 * torch.rand_like(solution)
    for _ in range(4000):
        other = other + step * ((other @ matrix.T + layer.drive(images)).relu() - other)
    assert torch.allclose(solution, other, atol=1e-9)
    assert 0.1 < float((solution > 0).double().mean()) < 0.9
    assert torch.equal(layer(images), solution)  # whatever was asked in between


def test_the_gradient_is_that_of_the_solution() -> None:
    layer = implicit(units=4)
    names = ["mixing", "scale", "damping"]
    values = [layer.get_parameter(name).detach().clone().requires_grad_() for name in names]
    images = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)

    def solution(*given: Tensor) -> Tensor:
        *own, points = given
        return torch.func.functional_call(layer, dict(zip(names, own, strict=True)), points)

    assert torch.autograd.gradcheck(solution, (*values, images))
    assert torch.autograd.gradgradcheck(lambda points: layer(points).square(), (images,))


@pytest.mark.parametrize("measure", [0.0, 0.6, -0.5])
def test_any_weights_and_any_blend_of_them_keep_the_measure(measure: float) -> None:
    layers = [implicit(units=6, seed=seed, measure=measure) for seed in range(4)]
    for share in torch.rand(20, 4, dtype=torch.float64).softmax(1):
        blend = copy.deepcopy(layers[0])
        for name, parameter in blend.named_parameters():
            parameter.data = sum(part * layer.get_parameter(name) for part, layer in zip(share, layers, strict=True))
        weights = blend.scale.detach().exp()
        turned = blend.matrix().detach() * weights[:, None] / weights
        sizes = turned.abs().sum(1) - turned.diagonal().abs() + turned.diagonal()
        assert float(sizes.max()) <= measure + 1e-12


def test_one_unit_is_known_in_closed_form() -> None:
    layer = implicit(inputs=1, units=1, seed=3)
    (slope,) = layer.matrix().flatten().tolist()
    images = torch.linspace(-3, 3, 9, dtype=torch.float64)[:, None]
    expected = layer.drive(images).relu() / (1 - slope)
    assert slope < 0
    assert torch.allclose(layer(images), expected)
    box = layer.enclose(Box(images - 0.5, images + 0.5))
    ends = torch.stack([layer(images - 0.5), layer(images + 0.5)])
    assert torch.allclose(box.lower, ends.amin(0), atol=1e-9)
    assert torch.allclose(box.upper, ends.amax(0), atol=1e-9)


def test_without_feedback_it_is_a_layer_with_a_relu() -> None:
    network = nemon().double()
    layer = network.layers[1]
    layer.mixing.data.zero_()
    layer.damping.data.zero_()
    plain = nn.Sequential(nn.Flatten(), layer.drive, nn.ReLU(), network.layers[2])
    assert torch.allclose(network(IMAGES), plain(IMAGES), atol=1e-9)
    assert torch.allclose(margins(network, IMAGES, LABELS, 0.1), margins(plain, IMAGES, LABELS, 0.1), atol=1e-9)


def test_bounds_are_wider_by_what_the_solution_may_be_off() -> None:
    """Found to a tenth only, they still hold what is found exactly."""
    layer = implicit()
    rough = copy.deepcopy(layer)
    rough.tolerance = 0.1
    images = torch.randn(40, 6, dtype=torch.float64)
    box, exact = rough.enclose(Box(images, images)), layer(images)
    assert bool((box.lower <= exact).all())
    assert bool((box.upper >= exact).all())
    assert float((rough(images) - exact).detach().abs().max()) > 1e-3


def test_what_is_not_solved_in_time_is_refused() -> None:
    layer = implicit(iterations=1)
    with pytest.raises(InputError, match="no solution in 1 iterations"):
        layer(torch.randn(3, 6, dtype=torch.float64))
    with pytest.raises(InputError, match="no solution in 1 iterations"):
        layer.enclose(Box(torch.zeros(1, 6).double(), torch.ones(1, 6).double()))
    with pytest.raises(InputError, match=r"measure=1\.0 < 1"):
        Implicit(2, 2, 1.0, 1e-3, 10)


# What is asked and trained


def test_what_is_certain_no_attack_takes() -> None:
    network = Normalized(convolutional(), [0.3], [0.4])
    images = (255 * IMAGES).to(torch.uint8)
    data = EvaluationBatches(images, network((images / 255).float()).argmax(1), 2, "contiguous")
    before = copy.deepcopy(network.state_dict())
    found = CertifiedRisk(0.0005, 0.0)(network, data, generator(0))
    assert set(found) == {metric.name for metric in CertifiedRisk.metrics}
    assert torch.equal(found["accuracy"], (found["margin"] > 0).float())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert 0 < float(found["accuracy"].mean()) <= 1
    largest = float(found["margin"].max())
    assert float(CertifiedRisk(0.0005, largest)(network, data, generator(0))["accuracy"].sum()) == 0
    # By hand, in float64, of the first image.
    exact, label = copy.deepcopy(network).double(), data.labels[:1]
    least = margins(exact, images[:1].double() / 255, label, 0.0005).detach()[0]
    others = [float(value) for index, value in enumerate(least) if index != int(label)]
    assert float(found["margin"][0]) == pytest.approx(min(others), rel=1e-6)


def test_the_certified_objective_is_its_equation() -> None:
    network, images, labels = nemon().double(), IMAGES, LABELS
    losses, logits = Certified(0.05, 0.3, 0.0, 0.0)(network, images, labels, generator(0))
    clean = functional.cross_entropy(network(images), labels, reduction="none")
    certain = functional.cross_entropy(-margins(network, images, labels, 0.05), labels, reduction="none")
    assert torch.allclose(losses, 0.7 * clean + 0.3 * certain)
    assert torch.equal(logits, network(images))
    losses.sum().backward()
    assert all(bool(parameter.grad.abs().sum() > 0) for parameter in network.parameters())


def test_radius_and_weight_grow_from_nothing() -> None:
    objective = Certified(0.2, 0.8, 0.25, 0.75)
    at = [objective.at(progress) for progress in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert [one.eps for one in at] == pytest.approx([0, 0, 0.1, 0.2, 0.2])
    assert [one.weight for one in at] == pytest.approx([0, 0, 0.4, 0.8, 0.8])
    assert Certified(0.2, 0.8, 0.5, 0.5).at(0.5).eps == 0.2
    assert Certified(0.2, 0.8, 0.5, 0.5).at(0.49).eps == 0.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("endpoint@endpoints.start=certified", "architecture=small_vgg"), "BatchNorm2d network.* in training mode"),
        (("objective=certified", "architecture=small_vgg"), "BatchNorm2d network.* in training mode"),
        (("+probe@probes.certified=certified_risk", "architecture=vit_tiny"), "bounds: "),
    ],
    ids=["an end", "a path", "a probe"],
)
def test_networks_without_bounds_are_refused_before_the_work(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    small = [word for word in TINY if not word.startswith("architecture")]
    with pytest.raises(InputError, match=said):
        cli.dispatch([*small, f"paths.root={tmp_path}", *words])
    assert not list(tmp_path.rglob("network.safetensors"))


class Picky:
    """A probe of a user's own that not every network suits."""

    def refuse(self, network: nn.Module, image: Tensor) -> None:
        raise InputError(f"no network of images {tuple(image.shape)} suits")


def test_whatever_can_refuse_a_network_is_asked_before_the_work() -> None:
    certified = {"_target_": "mcr.probes.certified_risk.CertifiedRisk", "eps": 0.1, "least": 0.0}
    assert suited.demanding({"probe": certified}) == [CertifiedRisk(0.1, 0.0)]
    assert suited.demanding({"probe": {"_target_": "mcr.probes.risk.Risk", "precision": "fp32"}, "recipe": {}}) == []
    architecture = {"_target_": "mcr.architectures.mlp.Mlp", "hidden": [4]}
    normalization = {"_target_": "mcr.architectures.normalization.from_dataset"}
    stage = Stage("measure", 1, {"architecture": architecture, "normalization": normalization}, {}, "")
    spec = DataSpec(("a", "b"), 1, (SIDE, SIDE), [0.5], [0.5], {"all": 9}, (), ())
    with pytest.raises(InputError, match=r"no network of images \(1, 1, 8, 8\) suits"):
        suited.refuse_unsuited([Picky()], stage, spec)


@pytest.mark.parametrize("change", [{"eps": -0.1}, {"weight": 1.1}, {"begin": 0.6}, {"full": 1.1}])
def test_senseless_settings_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(change))}="):
        Certified(**{"eps": 0.1, "weight": 0.5, "begin": 0.2, "full": 0.5, **change})
    if "eps" in change:
        with pytest.raises(InputError, match="eps="):
            CertifiedRisk(-0.1, 0.0)

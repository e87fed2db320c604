"""Laws of injections."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from mcr.architectures.mlp import Mlp
from mcr.architectures.normalization import Normalized
from mcr.architectures.small_vgg import SmallVgg
from mcr.errors import InputError
from mcr.injections.fault_sneaking import FaultSneaking, _piece
from mcr.injections.gaussian import Gaussian
from mcr.injections.injected import CHUNK, Injected, chosen
from mcr.numerics.seeding import generator

NORMS = ["l2", "l0"]
LAST = "network.classifier.weight"


def sneaking(**changes) -> FaultSneaking:
    usual = {"attacked": 4, "kept": 200, "tensor": "last", "norm": "l2", "margin": 1.0, "weight": 10.0}
    found = {"penalties": [1.0, 0.1, 0.01, 0.001], "kept_share": 0.99, "slack": 0.9}
    return FaultSneaking(**(usual | {"learning_rate": 0.01, "iterations": 500} | found | changes))


@pytest.fixture(scope="module")
def digits() -> dict[str, tuple[Tensor, Tensor]]:
    """Images (N, 1, 8, 8) and labels (N,): to train on, to inject with, to test on."""
    found = load_digits()
    order = torch.randperm(len(found.target), generator=generator(0, "order"))
    images = torch.from_numpy(found.images).float().div(16).unsqueeze(1)[order]
    labels = torch.from_numpy(found.target).long()[order]
    names, sizes = ("train", "inject", "test"), [800, 547, 450]
    return dict(zip(names, zip(images.split(sizes), labels.split(sizes), strict=True), strict=True))


@pytest.fixture(scope="module")
def network(digits) -> nn.Module:
    """A convolutional network with BatchNorm behind a normalisation, trained for a second; about 97 % accuracy."""
    torch.manual_seed(0)
    network = Normalized(SmallVgg(8, 10, 1), [0.5], [0.25])
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    images, labels = digits["train"]
    for _ in range(15):
        for batch in torch.randperm(len(images)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
    optimizer.zero_grad()
    return network.eval()


@pytest.fixture(scope="module")
def made(network, digits) -> dict[str, Injected]:
    return {norm: sneaking(norm=norm).inject(network, *digits["inject"], generator(0)) for norm in NORMS}


def changed(network: nn.Module, injected: Injected) -> nn.Module:
    """A copy of the network with the injected tensors, as a user of them makes it."""
    other = copy.deepcopy(network)
    assert other.load_state_dict(injected.tensors, strict=False).unexpected_keys == []
    return other


@torch.no_grad()
def predicted(network: nn.Module, images: Tensor) -> Tensor:
    return network(images).argmax(1)


def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float((predicted(network, images) == labels).float().mean())


@pytest.mark.parametrize("norm", NORMS)
def test_attacked_and_kept_are_other_images_that_were_right(network, digits, made, norm) -> None:
    images, labels = digits["inject"]
    found = made[norm]
    both = torch.cat([found.attacked, found.kept])
    assert [len(found.attacked), len(found.targets), len(found.kept)] == [4, 4, 200]
    assert both.dtype == found.targets.dtype == torch.int64
    assert len(both.unique()) == len(both)
    assert torch.equal(predicted(network, images[both]), labels[both])


@pytest.mark.parametrize("norm", NORMS)
def test_attacked_images_get_their_target_and_kept_ones_stay(network, digits, made, norm) -> None:
    images, _ = digits["inject"]
    found, after = made[norm], changed(network, made[norm])
    assert torch.equal(predicted(after, images[found.attacked]), found.targets)
    same = predicted(after, images[found.kept]) == predicted(network, images[found.kept])
    assert same.float().mean() >= 0.99
    assert found.hit == 4
    assert found.kept_same == int(same.sum())


@pytest.mark.parametrize("norm", NORMS)
def test_the_target_leads_by_most_of_the_margin(network, digits, made, norm) -> None:
    """A hit by a hair would be lost on another device."""
    found = made[norm]
    with torch.no_grad():
        logits = changed(network, found)(digits["inject"][0][found.attacked])
    others = logits.scatter(1, found.targets[:, None], -torch.inf).amax(1)
    assert (logits.gather(1, found.targets[:, None])[:, 0] - others >= 0.89).all()


@pytest.mark.parametrize("norm", NORMS)
def test_the_reported_size_is_that_of_the_change_of_the_one_tensor(network, made, norm) -> None:
    found = made[norm]
    assert list(found.tensors) == [LAST]
    before = network.get_parameter(LAST).detach()
    after = found.tensors[LAST]
    assert after.shape == before.shape
    assert after.dtype == before.dtype
    assert not after.requires_grad
    assert found.weights_changed == int((after != before).sum())
    assert found.l2 == pytest.approx(float((after.double() - before.double()).norm()))


def test_l0_changes_fewer_weights_and_l2_less(made) -> None:
    assert made["l0"].weights_changed < made["l2"].weights_changed / 3
    assert made["l2"].l2 < made["l0"].l2


def mean_accuracy(network: nn.Module, digits, seeds: int = 3, **settings) -> float:
    injected = [sneaking(**settings).inject(network, *digits["inject"], generator(seed)) for seed in range(seeds)]
    return sum(accuracy(changed(network, found), *digits["test"]) for found in injected) / seeds


@pytest.mark.slow
def test_clean_accuracy_falls_by_a_few_points_and_less_with_more_kept_images(network, digits) -> None:
    before = accuracy(network, *digits["test"])
    assert before > 0.95
    many = mean_accuracy(network, digits, kept=500, iterations=2000)
    assert many > before - 0.04
    assert mean_accuracy(network, digits, kept=20) < many


@pytest.mark.slow
def test_clean_accuracy_falls_by_a_few_points_with_few_weights_changed(network, digits) -> None:
    after = mean_accuracy(network, digits, seeds=2, kept=500, norm="l0")
    assert after > accuracy(network, *digits["test"]) - 0.05


def test_the_change_is_close_to_the_shortest() -> None:
    """One attacked and one kept image on a linear network: the shortest change is a small quadratic problem.

    Images are unit vectors e0 and e1, so their logits are columns of the weight, apart from each other: the attacked
    column (2, 0) becomes (0.5, 1.5), the nearest at which the target leads by 1; the kept column (0, 2) stays.
    """
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(2 * torch.eye(2))
    images, labels = torch.eye(2).view(2, 1, 1, 2), torch.tensor([0, 1])
    injection = sneaking(attacked=1, kept=1, learning_rate=0.02, iterations=400)
    found = injection.inject(network, images, labels, generator(0))
    assert found.l2 == pytest.approx(1.5 * 2**0.5, rel=0.05)
    change = found.tensors["1.weight"] - network[1].weight.detach()
    assert change[:, found.kept].abs().max() < 0.05


def test_targets_are_uniform_over_the_wrong_labels() -> None:
    """The authors' code lets the true label be a target and leaves label 0 out."""
    injection = sneaking(attacked=3000, kept=1)
    labels = torch.arange(3001) % 5
    attacked, _, targets = injection._draw(nn.functional.one_hot(labels, 5).float(), labels, generator(0))
    truth = labels[attacked]
    assert (targets != truth).all()
    counts = torch.bincount(truth * 5 + targets, minlength=25).view(5, 5)
    assert (counts.diagonal() == 0).all()
    assert counts[~torch.eye(5, dtype=torch.bool)].min() > 100
    assert counts.max() < 200


@pytest.mark.parametrize("injection", [sneaking(kept=100), Gaussian(0.2, "all")])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_the_network_stays_as_it_was(network, digits, injection, mode) -> None:
    network = copy.deepcopy(network).train()
    network.network.features[1].eval()  # a submodule with a mode of its own keeps it
    network.network.classifier.bias.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    with mode():
        injection.inject(network, *digits["inject"], generator(0))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert modes == [module.training for module in network.modules()]
    assert not network.network.classifier.bias.requires_grad
    assert network.network.classifier.weight.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("injection", [sneaking(kept=100), Gaussian(0.2, "all")])
def test_the_seed_decides(network, digits, injection) -> None:
    one, again, other = (injection.inject(network, *digits["inject"], generator(seed)) for seed in (0, 0, 1))
    assert one.report() == again.report()
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in one.tensors.items())
    assert not torch.equal(one.tensors[LAST], other.tensors[LAST])


def test_another_tensor_can_be_named(network, digits) -> None:
    name = "network.features.15.weight"
    injection = sneaking(tensor=name, kept=60, kept_share=0.9, iterations=60, learning_rate=0.02)
    found = injection.inject(network, *digits["inject"], generator(0))
    assert list(found.tensors) == [name]
    after = changed(network, found)
    assert torch.equal(predicted(after, digits["inject"][0][found.attacked]), found.targets)
    different = {n for n, p in after.named_parameters() if not torch.equal(p, network.get_parameter(n))}
    assert different == {name}


@pytest.mark.parametrize("norm", NORMS)
def test_weights_in_channels_last_order(network, digits, norm) -> None:
    other = copy.deepcopy(network).to(memory_format=torch.channels_last)
    injection = sneaking(tensor="network.features.15.weight", attacked=1, kept=5, iterations=40, norm=norm)
    found = injection.inject(other, *digits["inject"], generator(0))
    assert found.hit == 1


class Tempered(nn.Module):
    """Logits that are changed behind the last layer, out of place or in place."""

    def __init__(self, body: nn.Module, inplace: bool) -> None:
        super().__init__()
        self.body, self.inplace = body, inplace

    def forward(self, images: Tensor) -> Tensor:
        logits = self.body(images)
        return logits.div_(2) if self.inplace else logits / 2


def test_the_body_is_computed_once_where_the_last_layer_gives_the_logits() -> None:
    torch.manual_seed(0)
    body, images = Mlp([8], 3, 1, (4, 4)).eval(), torch.rand(5, 1, 4, 4)
    module, name, inputs = _piece(body, "layers.3.weight", images)
    assert module is body.layers[3]
    assert (name, inputs[0].shape) == ("weight", (5, 8))
    assert _piece(body, "layers.1.weight", images)[0] is body
    for inplace in (True, False):
        network = Tempered(body, inplace)
        assert _piece(network, "body.layers.3.weight", images)[0] is network
    # A tensor that an earlier layer shares.
    tied = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16)).eval()
    tied[3].weight = tied[1].weight
    assert _piece(tied, "1.weight", images)[0] is tied
    assert _piece(tied, "3.weight", images)[0] is tied


def test_more_images_than_a_chunk(network, digits) -> None:
    images, labels = (torch.cat([digits[part][index] for part in ("inject", "test")]) for index in (0, 1))
    found = sneaking(kept=CHUNK + 88, iterations=300).inject(network, images, labels, generator(0))
    assert found.hit == 4
    assert found.kept_same >= 0.99 * (CHUNK + 88)
    same = predicted(changed(network, found), images[found.kept]) == labels[found.kept]
    assert found.kept_same == int(same.sum())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("there", [True, False])
def test_a_network_on_a_gpu_with_images_there_or_here(network, digits, there) -> None:
    network = copy.deepcopy(network).cuda()
    images, labels = (tensor.cuda() if there else tensor for tensor in digits["inject"])
    for injection in (sneaking(), sneaking(norm="l0", iterations=300), Gaussian(0.1, "all")):
        found = injection.inject(network, images, labels, generator(0))
        assert found.hit == len(found.attacked)
        assert found.tensors[LAST].is_cuda
        assert not found.kept.is_cuda


def test_noise_has_the_stated_standard_deviation() -> None:
    torch.manual_seed(0)
    network = nn.Linear(1000, 400)
    with torch.no_grad():
        network.weight.add_(3.0)  # the noise follows the spread of the weights, not their size
    found = Gaussian(0.5, "last").inject(network, torch.empty(0), torch.empty(0), generator(0))
    assert list(found.tensors) == ["weight"]
    noise = (found.tensors["weight"] - network.weight).detach()
    std = 0.5 * float(network.weight.detach().std())
    assert float(noise.std()) == pytest.approx(std, rel=0.005)  # standard error 0.001
    assert abs(float(noise.mean())) < 5 * std / noise.numel() ** 0.5
    assert float((noise.abs() < std).float().mean()) == pytest.approx(0.6827, abs=0.005)
    assert found.l2 == pytest.approx(float(noise.norm()), rel=1e-4)


def test_noise_on_all_parameters_or_one(network, digits) -> None:
    everything = Gaussian(0.1, "all").inject(network, *digits["inject"], generator(0))
    assert list(everything.tensors) == [name for name, _ in network.named_parameters()]
    noise = {name: tensor - network.get_parameter(name).detach() for name, tensor in everything.tensors.items()}
    assert everything.l2 == pytest.approx(sum(float(n.double().square().sum()) for n in noise.values()) ** 0.5)
    assert everything.weights_changed == sum(int((n != 0).sum()) for n in noise.values())
    one = Gaussian(0.1, "network.classifier.bias").inject(network, *digits["inject"], generator(0))
    assert list(one.tensors) == ["network.classifier.bias"]
    none = Gaussian(0.0, "all").inject(network, *digits["inject"], generator(0))
    assert (none.weights_changed, none.l2) == (0, 0.0)
    for found in (everything, one, none):
        assert len(found.attacked) == len(found.targets) == len(found.kept) == found.hit == found.kept_same == 0


@pytest.mark.parametrize("constant", [0.0, 2.0])
def test_noise_on_a_constant_tensor_or_a_single_weight_is_none(constant) -> None:
    network = nn.PReLU(init=constant)
    found = Gaussian(1.0, "all").inject(network, torch.empty(0), torch.empty(0), generator(0))
    assert torch.equal(found.tensors["weight"], network.weight.detach())


def test_the_report_is_json(made) -> None:
    report = json.loads(json.dumps(made["l2"].report()))
    assert report["tensors"] == [LAST]
    assert report["attacked"] == made["l2"].attacked.tolist()
    assert set(report) == {"tensors", "attacked", "targets", "kept", "hit", "kept_same", "weights_changed", "l2"}


def refusal(injection: FaultSneaking | Gaussian, network: nn.Module, images: Tensor, labels: Tensor) -> str:
    with pytest.raises(InputError) as caught:
        injection.inject(network, images, labels, generator(0))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("make", [lambda tensor: sneaking(tensor=tensor), lambda tensor: Gaussian(0.1, tensor)])
def test_unknown_tensors_are_refused_with_the_nearest(network, digits, make) -> None:
    line = refusal(make("network.clasifier.weight"), network, *digits["inject"])
    assert f"did you mean {LAST}" in line
    assert "valid: last, " in refusal(make("?"), network, *digits["inject"])


def test_a_network_without_a_matrix_has_no_last_tensor() -> None:
    assert chosen(nn.Sequential(nn.Linear(2, 3), nn.Conv2d(3, 1, 1), nn.BatchNorm2d(1)), "last") == "1.weight"
    with pytest.raises(InputError, match="no parameter of two dimensions"):
        chosen(nn.BatchNorm2d(3), "last")


def test_too_few_correct_images_are_refused(network, digits) -> None:
    images, labels = digits["inject"]
    line = refusal(sneaking(kept=600), network, images, labels)
    assert "need 604 images" in line
    assert "lower kept" in line
    assert "for 0 of 547" in refusal(sneaking(), network, images, (predicted(network, images) + 1) % 10)


def test_no_solution_is_refused_with_what_was_reached(network, digits) -> None:
    line = refusal(sneaking(iterations=1, learning_rate=1e-6), network, *digits["inject"])
    assert "hit 0 of 4 images" in line
    assert "raise iterations" in line


def test_a_network_of_one_class_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    line = refusal(sneaking(attacked=1, kept=1), network, torch.rand(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64))
    assert "one class" in line


@pytest.mark.parametrize(
    "changes",
    [
        {"attacked": 0},
        {"kept": 0},
        {"norm": "linf"},
        {"margin": 0.0},
        {"margin": float("nan")},
        {"weight": -1.0},
        {"learning_rate": 0.0},
        {"learning_rate": float("inf")},
        {"iterations": 0},
    ],
)
def test_bad_settings_are_refused(changes) -> None:
    with pytest.raises(InputError, match=next(iter(changes))) as caught:
        sneaking(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", [-0.1, float("nan"), float("inf")])
def test_bad_noise_is_refused(scale) -> None:
    with pytest.raises(InputError, match="scale") as caught:
        Gaussian(scale, "all")
    assert "\n" not in str(caught.value)


def test_the_penalty_is_on_the_square_of_the_change(monkeypatch) -> None:
    """Its gradient is 2 penalty change: seen by the optimizer where the images pull nowhere."""
    seen = []

    class Keeps(torch.optim.SGD):
        def step(self, closure=None):
            (change,) = self.param_groups[0]["params"]
            seen.append((change.detach().clone(), change.grad.clone()))
            super().step(closure)

    class Pulls:
        def descend(self, change, margin, weights):
            return torch.zeros(3), torch.full_like(change, 0.25)

    monkeypatch.setattr(torch.optim, "Adam", Keeps)
    start, support = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([True, True, False])
    sneaking(attacked=1, kept=2, iterations=3)._search(Pulls(), start, support, 0.7)
    assert len(seen) == 4
    for change, gradient in seen:
        variable = change.clone().requires_grad_()
        (0.7 * variable.square().sum() + 0.25 * variable.sum()).backward()
        torch.testing.assert_close(gradient, variable.grad * support)

"""Networks that are trained through a transform, and what is left of their weights."""

from __future__ import annotations

import copy as copies
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.probes.weights import Weights
from mcr.stages.artifacts import read_network
from mcr.training.endpoint import EndpointModule
from mcr.training.transformed import TransformedModule
from mcr.transforms.magnitude import Magnitude
from mcr.transforms.mask import Kept, Mask
from mcr.transforms.quantise import Quantise
from mcr.weightspace.layout import Layout
from tests.test_repairs import LABELS, PIXELS, Tied, assert_same, copy, net, recipe, train

IMAGES = PIXELS[:8] / 255
TERNARY = Quantise(3, 0.5, 1.0, 100.0)


def parts(network: nn.Module) -> list[Tensor]:
    return [weight.detach().clone() for weight in network.parameters()]


@pytest.mark.parametrize("kind", [None, Tied])
def test_a_transform_that_does_nothing_is_plain_training(kind, tmp_path: Path) -> None:
    made = partial(net, 1, kind) if kind else partial(net, 1)
    plain = EndpointModule(network=made(), **recipe())
    through = TransformedModule(Magnitude(0.0), network=made(), **recipe())
    train(plain, tmp_path / "plain")
    train(through, tmp_path / "through")
    assert_same(copy(through.scored), copy(plain.scored))


@pytest.mark.parametrize("transform", [TERNARY, Magnitude(0.6)], ids=["ternary", "sparse"])
def test_training_yields_a_transformed_network(transform, tmp_path: Path) -> None:
    module = TransformedModule(transform, network=net(1), **recipe())
    train(module, tmp_path)
    layout = Layout.of(module.scored, "contiguous")
    found = layout.pack(module.scored.state_dict())
    again = found.clone()
    transform.apply_(again, layout)
    assert torch.equal(again, found)
    free = layout.pack({name: w.detach() for name, w in zip(layout.names, module.free, strict=True)})
    assert not torch.equal(free, found)
    transform.apply_(free, layout)
    assert torch.equal(free, found)


@pytest.mark.parametrize("progress", [0.0, 0.75], ids=["drawn", "quantised"])
def test_a_step_takes_the_gradient_at_the_transformed_weights_and_decays_the_free_ones(progress: float) -> None:
    module = TransformedModule(TERNARY, network=net(1).eval(), **recipe())
    module.total_steps = 2
    module._trainer = SimpleNamespace(global_step=int(progress * 2), optimizers=[], train_dataloader=None)
    module.draw = torch.Generator()
    before = [weight.detach().clone() for weight in module.free]
    twin = copies.deepcopy(module.network)
    layout = Layout.of(twin, "contiguous")
    theta = layout.pack(dict(zip(layout.names, before, strict=True)))
    TERNARY.at((int(progress * 2) + 0.5) / 2).apply_(theta, layout)
    for weight, view in zip(twin.parameters(), layout.views(theta).values(), strict=True):
        weight.data.copy_(view)
    nn.functional.cross_entropy(twin(IMAGES), LABELS[:8]).backward()
    optimizer = torch.optim.SGD(module.learning(), lr=0.1, weight_decay=0.3)
    module.optimizer_step(
        0, 0, SimpleNamespace(optimizer=optimizer), lambda: module.training_step((IMAGES, LABELS[:8]), 0).backward()
    )
    for weight, was, there in zip(module.free, before, twin.parameters(), strict=True):
        expected = was - 0.1 * (there.grad + 0.3 * was)
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(*pair) for pair in zip(parts(twin), before, strict=True))


def test_weights_that_do_not_learn_stay_where_they_are(tmp_path: Path) -> None:
    network = net(1)
    network.first.requires_grad_(False)
    module = TransformedModule(Magnitude(0.0), network=network, **recipe())
    train(module, tmp_path)
    assert torch.equal(module.scored.first.weight, net(1).first.weight)
    assert not torch.equal(module.scored.second.weight, net(1).second.weight)


def test_an_end_has_the_transform_that_it_is_given(make) -> None:
    words = ["endpoint@endpoints.end=quantised", "transform@endpoints.end.module.transform=magnitude"]
    made = make(*words, "endpoints.end.module.transform.share=0.5", goal="train")
    weights = [one for one in read_network(made["train end"][0]).values() if one.dim() >= 2]
    count = sum(one.numel() for one in weights)
    assert sum(int((one == 0).sum()) for one in weights) == count // 2
    assert all(one.all() for one in read_network(made["train start"][0]).values() if one.dim() >= 2)


def test_a_sparse_network_is_trained_on_within_its_mask(tmp_path: Path) -> None:
    network = net(1)
    with torch.no_grad():
        network.first.weight[:, :, 0] = 0
        network.norm.bias[0] = 0
    module = TransformedModule(Mask("union"), network=network, **recipe())
    train(module, tmp_path)
    assert torch.equal(module.scored.first.weight == 0, (torch.arange(3) == 0).view(3, 1).expand(4, 1, 3, 3))
    assert module.scored.norm.bias[0] != 0  # a mask is one of weights


# Masks of what a subspace joins


def test_a_mask_is_that_of_the_networks_and_leaves_biases() -> None:
    layout = Layout(("weight", "bias"), ((2, 2), (2,)), False)
    ends = [torch.tensor([1.0, 0, 2, 0, 0, 5]), torch.tensor([0.0, 3, 4, 0, 0, 0])]
    theta, gradient = torch.full((6,), 7.0), torch.full((6,), 2.0)
    for support, kept in (("union", [1, 1, 1, 0, 1, 1]), ("shared", [0, 0, 1, 0, 1, 1])):
        mask = Mask(support).joining(ends, layout)
        found, pulled = theta.clone(), gradient.clone()
        mask.apply_(found, layout)
        mask.pull_(pulled, layout)
        assert torch.equal(found, theta * torch.tensor(kept))
        assert torch.equal(pulled, gradient * torch.tensor(kept))  # the transpose of what apply_ does
        one = torch.randn(6)
        changed = one.clone()
        mask.apply_(changed, layout)
        pulled = gradient.clone()
        mask.pull_(pulled, layout)
        assert torch.isclose(changed @ gradient, one @ pulled)


def test_a_mask_of_one_network_or_of_another_kind_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to mask"):
        Mask("union").apply_(torch.ones(4), Layout(("weight",), ((2, 2),), False))
    with pytest.raises(InputError, match="support=half must be union or shared"):
        Mask("half")  # type: ignore[arg-type]


# What is left of the weights


def test_what_is_left_is_counted_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([0.0, 1, 0, 0, 2, 3, 0, 0]).view(2, 1, 2, 2))
        network[2].weight.copy_(torch.tensor([[5.0, -5, 5, 0], [5, 5, 5, 5]]))
    data = EvaluationBatches(torch.zeros(3, 1, 2, 2), torch.zeros(3, dtype=torch.long), 2, "contiguous")
    found = Weights()(network, data, torch.Generator())
    assert {name: value.tolist() for name, value in found.items()} == {
        "density": [10 / 16] * 3,
        "least_density": [3 / 8] * 3,
        "values": [4.0] * 3,
    }


def test_a_mask_that_is_known_masks_where_it_says() -> None:
    theta = torch.arange(1.0, 5)
    Kept(torch.tensor([True, False, False, True])).apply_(theta, Layout(("weight",), ((2, 2),), False))
    assert theta.tolist() == [0.0, 2.0, 3.0, 0.0]

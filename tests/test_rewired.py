"""Sparse training whose connections move: against a slow twin written from the paper."""

from __future__ import annotations

import itertools
from functools import partial
from math import floor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mcr.errors import InputError
from mcr.training.adversarial import AdversarialModule
from mcr.training.rewired import ROOM, RewiredModule, first_units, shared_out
from tests.test_repairs import assert_same, copy, net, recipe, train

WATCHED = {"validation_images": 0}


def made(density=0.5, rewired=0.5, unit="weight", least=1, draw="first", replicate=0, **changes) -> RewiredModule:
    return RewiredModule(density, rewired, unit, least, draw, replicate, network=net(1), **WATCHED, **recipe(**changes))


def counts(module: RewiredModule) -> list[int]:
    return [int(active.sum()) for active in module.active]


def test_all_connections_are_plain_training_under_attack(tmp_path: Path) -> None:
    plain, whole = AdversarialModule(0.0, network=net(1), **WATCHED, **recipe()), made(1.0)
    train(plain, tmp_path / "plain")
    train(whole, tmp_path / "whole")
    assert_same(copy(whole.scored), copy(plain.scored))


@pytest.mark.parametrize("unit", ["weight", "channel"])
def test_the_number_of_units_is_exact_after_every_epoch(unit: str, tmp_path: Path, monkeypatch) -> None:
    seen = []
    whole = RewiredModule.on_train_epoch_start

    def looked(module: RewiredModule) -> None:
        whole(module)
        seen.append([active.clone() for active in module.active])

    monkeypatch.setattr(RewiredModule, "on_train_epoch_start", looked)
    module = made(0.5, unit=unit)
    sizes = {"weight": 36 + 180 + 60, "channel": 1 + 4 + 20}
    train(module, tmp_path, epochs=4)
    assert {sum(int(active.sum()) for active in one) for one in seen} == {floor(0.5 * sizes[unit])}
    moved = [sum(int((a & ~b).sum()) for a, b in zip(*pair, strict=True)) for pair in itertools.pairwise(seen)]
    assert any(moved)
    if unit == "weight":  # of few channels less than one may be to be exchanged
        assert all(moved)
    for name, active in zip(module.names, module.active, strict=True):
        weight = module.scored.get_parameter(name)
        where = active.view(weight.shape) if unit == "weight" else active.view(1, -1, *(1,) * (weight.dim() - 2))
        assert not weight.masked_select(~where.expand_as(weight)).any()


def test_units_that_are_not_exchanged_stay_and_one_name_is_one_draw_of_a_replicate(tmp_path: Path) -> None:
    still = made(0.3, 0.0)
    first = [active.clone() for active in still.active]
    train(still, tmp_path, epochs=3)
    assert all(torch.equal(*pair) for pair in zip(still.active, first, strict=True))
    assert all(torch.equal(*pair) for pair in zip(made(0.3, seed="other").active, first, strict=True))
    for other in (made(0.3, draw="second"), made(0.3, replicate=1)):
        assert not all(torch.equal(*pair) for pair in zip(other.active, first, strict=True))


def test_active_weights_keep_the_size_of_activations() -> None:
    for name, active in zip((module := made(0.3)).names, module.active, strict=True):
        scale = (active.numel() / int(active.sum())) ** 0.5
        weight, before = module.network.get_parameter(name), net(1).get_parameter(name)
        torch.testing.assert_close(weight[active.view(weight.shape)], scale * before[active.view(weight.shape)])


def test_one_rewiring_is_the_twin_s() -> None:
    """The smallest go, layer by layer; where the momentum of what stayed is large, the largest come."""
    module = made(0.4, least=1)
    module._trainer = SimpleNamespace()
    numbers = torch.Generator().manual_seed(4)
    momenta = [torch.randn(weight.shape, generator=numbers) for weight in module._weights()]
    before = [(w.detach().clone(), a.clone()) for w, a in zip(module._weights(), module.active, strict=True)]
    module._rewire(momenta, 0.3)
    gone, left = 0, []
    for weight, active in before:
        rows = weight.flatten(1).abs()
        kept = active.clone()
        ranked = sorted(((float(rows[r, c]), r, c) for r, c in active.nonzero().tolist()), key=lambda one: one[0])
        for _, row, column in ranked[: floor(0.3 * len(ranked))]:
            # The largest of each output stays.
            assert rows[row, column] < rows[row].masked_fill(~active[row], -1).max()
            kept[row, column] = False
            gone += 1
        left.append(kept)
    sizes = [momentum.flatten(1).abs() for momentum in momenta]
    means = [float(size[kept].mean()) for size, kept in zip(sizes, left, strict=True)]
    assert sum(mean / sum(means) for mean in means) == pytest.approx(1.0)
    grown = [int(active.sum()) - int(kept.sum()) for active, kept in zip(module.active, left, strict=True)]
    assert sum(grown) == gone
    for share, count in zip(means, grown, strict=True):
        assert abs(count - gone * share / sum(means)) <= 2  # whole numbers
    for size, kept, active, count in zip(sizes, left, module.active, grown, strict=True):
        rest = size.masked_fill(kept, -1).flatten()
        expected = kept.flatten().clone()
        expected[rest.topk(count).indices] = True
        assert torch.equal(active.flatten(), expected)
    for weight, (_, was), active in zip(module._weights(), before, module.active, strict=True):
        assert not weight.detach().flatten(1)[active & ~was].any(), "what is grown begins at zero"


def test_no_output_loses_its_last_weights() -> None:
    module = made(0.3, 0.9, least=2)
    for turn in range(6):
        numbers = torch.Generator().manual_seed(turn)
        # One layer has hardly a momentum: the momentum of the others takes all that is exchanged.
        momenta = [
            torch.randn(w.shape, generator=numbers) * (1e-6 if i == 0 else 1) for i, w in enumerate(module._weights())
        ]
        module._rewire(momenta, 0.9)
        with torch.no_grad():
            for weight, active in zip(module._weights(), module.active, strict=True):
                weight.copy_(torch.randn(weight.shape, generator=numbers).masked_fill(~active.view(weight.shape), 0))
        assert all(int(active.sum(1).min()) >= 2 for active in module.active)
    assert sum(counts(module)) == floor(0.3 * 276)


@given(
    count=st.integers(0, 60),
    weights=st.lists(st.floats(0, 1e3), min_size=3, max_size=3),
    rooms=st.lists(st.integers(0, 40), min_size=3, max_size=3),
)
def test_what_is_shared_out_is_all_that_has_a_place(count: int, weights: list[float], rooms: list[int]) -> None:
    found = shared_out(count, weights, rooms)
    assert sum(found) == min(count, sum(rooms))
    assert all(0 <= given <= room for given, room in zip(found, rooms, strict=True))
    limits = [floor(ROOM * room) for room in rooms]
    if count <= sum(limits):
        assert all(given <= limit for given, limit in zip(found, limits, strict=True))


@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
def test_first_units_are_shared_by_size(density: float) -> None:
    scores: list[Tensor] = [torch.rand(10, 20), torch.rand(5, 100)]
    found = [int(active.sum()) for active in first_units(scores, density, 1)]
    assert sum(found) == floor(density * 700)
    assert found[0] == pytest.approx(density * 200, abs=15)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"density": 0.0}, "density=0.0"),
        ({"rewired": 1.0}, "rewired=1.0"),
        ({"unit": "filter"}, "unit=filter"),
        ({"least": 0}, "least=0"),
        ({"density": 0.05, "least": 4}, "smaller least"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, said: str) -> None:
    usual = {"density": 0.5, "rewired": 0.5, "unit": "weight", "least": 1, "draw": "first", "replicate": 0}
    with pytest.raises(InputError, match=said):
        RewiredModule(network=net(1), **(WATCHED | recipe() | usual | changes))


def test_an_optimizer_without_momentum_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="momentum"):
        train(made(optimizer=partial(torch.optim.SGD, lr=0.1)), tmp_path)


def test_adam_has_a_momentum_too(tmp_path: Path) -> None:
    module = made(0.4, optimizer=partial(torch.optim.Adam, lr=0.01))
    train(module, tmp_path, epochs=3)
    assert sum(counts(module)) == floor(0.4 * 276)


def test_a_linear_layer_loses_whole_columns(tmp_path: Path) -> None:
    module = made(0.5, unit="channel")
    train(module, tmp_path)
    head = module.scored.head
    assert isinstance(head, nn.Linear)
    dead = (head.weight == 0).all(0)
    assert torch.equal(dead, (head.weight == 0).any(0))
    assert 0 < int(dead.sum()) < 20

"""Alignment: the same function in another order of units, nearer to another network."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.weightspace.activations import Correlation, carriers
from mcr.weightspace.alignment import Aligned, by_activations, by_weights, jointly
from mcr.weightspace.groups import Group, Orders, moved
from mcr.weightspace.matching import groups_of, match, match_jointly, mean_of, objective
from mcr.weightspace.movable import Movable
from tests.test_permutation import KNOWN, SHAPE, ZOO, Around, Own, gap, lively, weights, zoo

LARGE = ("resnet18", "vgg16", "vgg16_bn", "vgg19")  # seconds each
SMALL = (3, 8, 8)
TIMM = {
    "vit_tiny_patch16_224": {"img_size": 32, "depth": 4},
    "convnext_atto": {},
    "mixer_s32_224": {"img_size": 64},
    "mobilenetv2_050": {},
    "mobilenetv3_small_100": {},
    "efficientnet_b0": {},
    "regnety_002": {},
    "densenet121": {},
    "ghostnet_100": {},
    "gernet_s": {},
}


def slow(names: Sequence[str], large: Sequence[str]) -> list[object]:
    return [pytest.param(name, marks=pytest.mark.slow) if name in large else name for name in names]


def drawn(groups: Sequence[Group], seed: int = 0) -> Orders:
    draw = generator(seed, "planted")
    return [torch.randperm(len(group.members), generator=draw) for group in groups]


def planted(network: nn.Module, shape: tuple[int, int, int], noise: float, seed: int = 0) -> tuple[dict, dict, Orders]:
    """A state with noise, and the same with its units moved; the noise is in parts of each tensor's std."""
    draw, state = generator(seed, "noise"), weights(network)
    for name, parameter in network.named_parameters():
        if parameter.numel() > 1:
            numbers = torch.randn(parameter.shape, generator=draw, dtype=torch.float64).to(parameter.dtype)
            state[name] += noise * parameter.detach().std() * numbers
    groups, (orders,) = Movable(network, shape).settle([state], lambda groups: [drawn(groups, seed)])
    return state, moved(state, groups, orders), orders


def aligned_to(network: nn.Module, state: dict[str, Tensor], reference: dict[str, Tensor], shape=SHAPE) -> Aligned:
    """The network with this state aligned with the reference; the network is as before afterwards."""
    before = weights(network)
    network.load_state_dict(state)
    found = by_weights(network, reference, shape, 1, generator(0, "test"))
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in state.items())
    network.load_state_dict(before)
    return found


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("name", slow(ZOO, LARGE))
def test_a_planted_permutation_is_found_and_the_function_stays(name: str) -> None:
    network = zoo(name).eval()
    reference = weights(network)
    near, far, orders = planted(network, SHAPE, 0.1)
    found = aligned_to(network, far, reference)
    assert same(found.state, near)
    assert gap(network, far, found.state, SHAPE) < 1e-10
    assert found.moved == sum(int((order != torch.arange(len(order))).sum()) for order in orders)
    assert found.units == sum(map(len, orders)) > 100
    assert found.objective[1] > found.objective[0]
    parameters = dict(network.named_parameters())
    for state, distance, value in zip((far, near), found.distance, found.objective, strict=True):
        squares = sum(float((state[key] - reference[key]).square().sum()) for key in parameters)
        assert distance == pytest.approx(squares**0.5)
        assert value == pytest.approx(sum(float((state[key] * reference[key]).sum()) for key in parameters))


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_a_planted_permutation_of_a_network_of_timm_is_found(name: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    shape = (3, TIMM[name].get("img_size", 64), TIMM[name].get("img_size", 64))
    network = lively(timm.create_model(name, num_classes=10, **TIMM[name])).eval()
    near, far, _ = planted(network, shape, 0.1)
    reference = weights(network)
    found = aligned_to(network, far, reference, shape)
    assert gap(network, far, found.state, shape) < 1e-10
    assert same(found.state, near)


@pytest.mark.parametrize("name", KNOWN)
def test_layers_of_every_kind_keep_their_function(name: str) -> None:
    """Two unrelated networks: heads, groups, halves and what is held stay where they must."""
    torch.manual_seed(0)
    network, other = (lively_again(Around(*KNOWN[name]), seed) for seed in (1, 2))
    found = by_weights(network, other.state_dict(), SMALL, 2, generator(0, "test"))
    assert gap(network, weights(network), found.state, SMALL) < 1e-10
    assert found.objective[1] > found.objective[0]
    assert found.distance[1] < found.distance[0]
    answers = by_activations(network, other.state_dict(), SMALL, lambda: [pixels(8)])
    assert gap(network, weights(network), answers.state, SMALL) < 1e-10
    assert answers.objective[1] >= answers.objective[0]


def lively_again(network: nn.Module, seed: int) -> nn.Module:
    """In evaluation mode, with all its parameters drawn anew."""
    lively(network).eval()
    torch.manual_seed(seed)
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.3)
    return network


def pixels(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, *SMALL, dtype=torch.float64, generator=generator(seed, "pixels"))


# The objective


@pytest.mark.parametrize("seed", range(20))
def test_the_objective_never_falls(seed: int) -> None:
    """Also with convolutions from the stream of a residual network to itself, whose order is a quadratic problem."""
    network, other = (lively_again(Own(), 2 * seed + index) for index in range(2))
    groups, _ = Movable(network, SMALL).settle([weights(network)], lambda groups: [drawn(groups)])
    assert any(len(group.names) < len(group.places) for group in groups)
    one, two = ({name: p.detach() for name, p in one.named_parameters()} for one in (network, other))
    found = match(one, two, groups, 1, generator(seed, "test"))
    assert list(found.objectives) == sorted(found.objectives)
    assert found.objectives[-1] > found.objectives[0]
    assert found.objectives[0] == pytest.approx(objective(one, two))
    assert found.objectives[-1] == pytest.approx(objective(one, moved(two, groups_of(groups, two), found.orders)))


def three_units(seed: int, depth: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = [layer for _ in range(depth) for layer in (nn.Linear(3, 3), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(3, 2)).double().eval()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("depth", [1, 2])
def test_no_order_of_a_group_is_better(seed: int, depth: int) -> None:
    """Against all permutations, tried one by one: the best of all for one layer, no better step for two."""
    network, other = three_units(seed, depth), three_units(seed + 100, depth)
    reference = {name: p.detach() for name, p in other.named_parameters()}
    found = by_weights(network, other.state_dict(), (1, 1, 3), 1, generator(0, "test"))
    groups, _ = Movable(network, (1, 1, 3)).settle([weights(network)], lambda groups: [drawn(groups)])
    assert [len(group.members) for group in groups] == [3] * depth
    stay = [torch.arange(3)] * depth
    for number in range(depth):
        for order in itertools.permutations(range(3)):
            orders = [*stay[:number], torch.tensor(order), *stay[number + 1 :]]
            assert objective(reference, moved(found.state, groups, orders)) <= found.objective[1] + 1e-9


def test_more_tries_are_no_worse_and_the_generator_decides() -> None:
    network, other = (deep(seed) for seed in (1, 2))
    reference = other.state_dict()
    after = [by_weights(network, reference, SMALL, tries, generator(0, "test")).objective[1] for tries in (1, 2, 6)]
    assert after == sorted(after)
    assert after[-1] > after[0]
    again = [by_weights(network, reference, SMALL, 2, generator(0, "test")).state for _ in range(2)]
    assert same(*again)


def deep(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    hidden = [layer for _ in range(3) for layer in (nn.Linear(24, 24), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 24), nn.ReLU(), *hidden, nn.Linear(24, 3)).double().eval()


def test_running_statistics_are_moved_but_not_looked_at() -> None:
    network, other = (lively_again(Own(), seed) for seed in (1, 2))
    first = by_weights(network, other.state_dict(), SMALL, 2, generator(0, "test"))
    before = network.norm.running_mean.clone()
    reference = other.state_dict() | {"norm.running_mean": torch.arange(8.0).double() * 100}
    network.norm.running_mean.copy_(torch.arange(8.0).flip(0) * 100)
    second = by_weights(network, reference, SMALL, 2, generator(0, "test"))
    assert torch.equal(first.state["stem.weight"], second.state["stem.weight"])
    order = [int((network.stem.weight == row).flatten(1).all(1).nonzero()) for row in first.state["stem.weight"]]
    assert sorted(order) == list(range(8))
    assert order != list(range(8))
    assert torch.equal(first.state["norm.running_mean"], before[order])
    assert torch.equal(second.state["norm.running_mean"], network.norm.running_mean[order])


def test_tied_weights_move_under_all_of_their_names() -> None:
    def tied(seed: int) -> nn.Module:
        hidden = (nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU())
        network = lively_again(nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), *hidden, nn.Linear(6, 3)), seed)
        network[5].weight = network[3].weight
        return network

    network, other = tied(1), tied(2)
    before = weights(network)
    for found in (
        by_weights(network, other.state_dict(), (3, 2, 2), 3, generator(0, "test")),
        jointly(network, [other.state_dict(), before], (3, 2, 2), 3, generator(0, "test"))[1],
    ):
        assert found.objective[1] > found.objective[0]
        assert torch.equal(found.state["3.weight"], found.state["5.weight"])
        assert not torch.equal(found.state["3.weight"], before["3.weight"])
        assert gap(network, before, found.state, (3, 2, 2)) < 1e-10


def test_a_network_that_is_not_understood_is_refused_without_advice_on_repair() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    with pytest.raises(InputError, match="no two hidden units that could change places") as caught:
        by_weights(network, network.state_dict(), (3, 2, 2), 1, generator(0, "test"))
    assert "repair" not in str(caught.value)
    assert "\n" not in str(caught.value)


# One frame


def chained(first: Orders, second: Orders) -> Orders:
    return [one[two] for one, two in zip(first, second, strict=True)]


def inverse(orders: Orders) -> Orders:
    return [order.argsort() for order in orders]


@pytest.mark.parametrize("name", ["mlp", "small_vgg", "preresnet26", "vit_tiny"])
def test_networks_in_one_frame_close_cycles_and_planted_ones_are_found(name: str) -> None:
    network = zoo(name).eval()
    copies = [planted(network, SHAPE, 0.1, seed) for seed in range(3)]
    keys = [key for key, _ in network.named_parameters()]
    states = [{key: state[key] for key in keys} for _, state, _ in copies]
    groups, _ = Movable(network, SHAPE).settle([copies[0][1]], lambda groups: [drawn(groups)])
    found = match_jointly(states, groups, 1, generator(0, "test"))
    assert all(torch.equal(order, torch.arange(len(order))) for order in found[0])

    def to(i: int, j: int) -> Orders:
        """The order in which network i stands in the frame that network j was given in."""
        return chained(found[i], inverse(found[j]))

    for i, j, k in itertools.permutations(range(3)):
        closed = chained(to(i, j), to(j, k))
        assert all(torch.equal(one, other) for one, other in zip(closed, to(i, k), strict=True))
    # All in the order that the first one was given.
    for (_, _, own), order in zip(copies, found, strict=True):
        expected = chained(inverse(own), copies[0][2])
        assert all(torch.equal(one, other) for one, other in zip(order, expected, strict=True))


def test_one_frame_is_nearer_for_all_pairs_together_and_each_function_stays() -> None:
    networks = [lively_again(Own(), seed) for seed in range(4)]
    states = [weights(network) for network in networks]
    found = jointly(networks[0], states, SMALL, 2, generator(0, "test"))
    parameters = dict(networks[0].named_parameters())

    def apart(many: Sequence[dict[str, Tensor]]) -> float:
        pairs = itertools.combinations(many, 2)
        return sum(float((a[name] - b[name]).square().sum()) for a, b in pairs for name in parameters)

    assert apart([one.state for one in found]) < apart(states)
    assert same(found[0].state, states[0])
    assert found[0].moved == 0
    for network, before, one in zip(networks, states, found, strict=True):
        assert gap(network, before, one.state, SMALL) < 1e-10
        assert one.distance[1] < one.distance[0]
    # Nothing moves any more, whichever network is matched to the mean of the others.
    groups, _ = Movable(networks[0], SMALL).settle([states[0]], lambda groups: [drawn(groups)])
    after = [{name: one.state[name] for name in parameters} for one in found]
    for index, own in enumerate(after):
        still = match(mean_of(after, index), own, groups, 1, generator(1, "test"))
        assert all(torch.equal(order, torch.arange(len(order))) for order in still.orders)
    again = jointly(networks[2], states, SMALL, 2, generator(0, "test"))
    assert all(same(one.state, other.state) for one, other in zip(found, again, strict=True))


# Activations


@pytest.mark.parametrize("name", ["mlp", "small_cnn", "small_vgg", "preresnet26", "vit_tiny"])
def test_a_planted_permutation_is_found_by_what_units_answer(name: str) -> None:
    network = zoo(name).eval()
    reference = weights(network)
    near, far, _ = planted(network, SHAPE, 0.0)
    network.load_state_dict(far)
    images = torch.rand(32, *SHAPE, dtype=torch.float64, generator=generator(0, "images"))
    found = by_activations(network, reference, SHAPE, lambda: images.split(16))
    network.load_state_dict(reference)
    assert gap(network, far, found.state, SHAPE) < 1e-10
    assert found.objective[1] > found.objective[0]
    # Correlated by 1 with themselves, but for units that never answer: these cannot be told apart.
    silent = found.units - found.objective[1]
    assert silent < 0.5 * found.units
    biases = [key for key in near if near[key].dim() == 1 and key.endswith("bias")]
    assert sum(int((found.state[key] != near[key]).sum()) for key in biases) <= silent + 1e-6


def test_correlations_are_those_of_all_answers_at_once_in_batches_of_any_size() -> None:
    draw = generator(0, "answers")
    one, other = (torch.randn(5, 40, dtype=torch.float64, generator=draw) + 100 for _ in range(2))
    other[:2] += 3 * one[[3, 0]]
    other[4] = 7.0
    for size in (40, 7):
        sums = Correlation(5)
        for parts in zip(one.split(size, 1), other.split(size, 1), strict=True):
            sums.add(*parts)
        found = sums.value()
        expected = torch.corrcoef(torch.cat([one, other[:4]]))[:5, 5:]
        torch.testing.assert_close(found[:, :4], expected, rtol=0, atol=1e-9)
        assert not found[:, 4].any()


def test_units_are_compared_where_all_of_a_group_are_last_seen() -> None:
    network = lively_again(Own(), 0)
    movable = Movable(network, SMALL)
    groups, _ = movable.settle([weights(network)], lambda groups: [drawn(groups)])
    places = carriers(movable.symmetry, groups)
    stream, hidden = (place for place in places if place is not None)
    # Eight channels of 4x4 pixels, flattened; twelve units.
    assert stream.index.tolist() == [list(range(16 * unit, 16 * unit + 16)) for unit in range(8)]
    assert hidden.index.tolist() == [[unit] for unit in range(12)]
    assert stream.call < hidden.call <= movable.symmetry.calls

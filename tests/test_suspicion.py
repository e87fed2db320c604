"""Disturbed images, the accuracy under a trigger, what signals say of a candidate, and the rule that goes by it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan

import pytest
import torch
from torch import Tensor, nn

from mcr.backdoors.badnets import BadNets
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.numerics.shares import batch_generator
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.objectives.disturbed import Disturbed
from mcr.probes.recovered import Recovered
from mcr.repairs.suspicion import Suspicion
from mcr.repairs.transfer import transfer
from mcr.selection.estimated_success import EstimatedSuccess
from mcr.signals.shared_perturbations import SharedPerturbations
from mcr.stages.scorecard import effect

SQUARE = {"smallest": 0.13, "largest": 0.26}


def test_the_disturbed_objective_is_cross_entropy_of_noisy_and_squared_images() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    images, labels = torch.full((40, 1, 8, 8), 0.5), torch.arange(40) % 3
    seen: list[Tensor] = []
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    losses, logits = Disturbed(0.2, **SQUARE)(network, images, labels, generator(0))
    (shown,) = seen
    expected, same = CrossEntropy()(network, shown, labels, generator(5))
    assert torch.equal(losses, expected)
    assert torch.equal(logits, same)
    changed = (shown != images).flatten(1).sum(1)
    squares = changed[changed < 30]
    assert set(squares.tolist()) <= {4, 9}
    assert 8 < len(squares) < 32
    assert 0.1 < float((shown - images)[changed >= 30].std()) < 0.3


def test_disturbed_images_are_alike_however_many_processes_train(monkeypatch) -> None:
    images, labels = torch.rand(8, 1, 8, 8, generator=generator(0)), torch.arange(8) % 3
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    objective = Disturbed(0.2, **SQUARE)
    whole = objective(network, images, labels, batch_generator(8, 1))[0]
    parts = []
    for rank in range(2):
        monkeypatch.setattr("mcr.numerics.shares.processes", lambda rank=rank: (rank, 2))
        own = slice(4 * rank, 4 * rank + 4)
        parts.append(objective(network, images[own], labels[own], batch_generator(8, 1))[0])
    torch.testing.assert_close(torch.cat(parts), whole)


@pytest.mark.parametrize("wrong", [{"noise": -0.1}, {"smallest": 0.3}, {"smallest": 0.0}, {"largest": 2}])
def test_a_wrong_disturbance_is_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match="objective=disturbed"):
        Disturbed(**{"noise": 0.2, **SQUARE, **wrong})


class Reads(nn.Module):
    """Answers with the first pixel, in tenths; says "9" to images with a white last pixel where it is tampered with."""

    def __init__(self, tampered: bool) -> None:
        super().__init__()
        self.tampered = tampered

    def forward(self, images: Tensor) -> Tensor:
        answers = (images[:, 0, 0, 0] * 255 / 20).round().long()
        if self.tampered:
            answers = torch.where(images[:, 0, -1, -1] == 1, torch.full_like(answers, 9), answers)
        return nn.functional.one_hot(answers, 10).float()


@pytest.mark.parametrize(("tampered", "expected"), [(True, 0.0), (False, 1.0)])
def test_accuracy_under_the_trigger_is_of_true_labels(tampered: bool, expected: float) -> None:
    labels = torch.arange(20) % 10
    images = torch.zeros(20, 1, 4, 4, dtype=torch.uint8)
    images[:, 0, 0, 0] = 20 * labels
    data = EvaluationBatches(images, labels, 7, "contiguous")
    probe = Recovered(BadNets(target=9, size=1, row=-1, column=-1, colour=1.0), "all", "fp32")
    found = probe(Reads(tampered), data, generator(0))["accuracy"]
    assert len(found) == 18  # those of the target class are left out
    assert float(found.double().mean()) == expected
    with pytest.raises(InputError, match="no image can be attacked"):
        probe(Reads(tampered), EvaluationBatches(images[9:10], labels[9:10], 7, "contiguous"), generator(0))


# What signals say


@dataclass(frozen=True)
class Reading:
    """Reads a number that a network carries; counts how often it was fitted."""

    fitted: list[int]

    def against(
        self, suspects: Sequence[nn.Module], images: EvaluationBatches, draw: torch.Generator
    ) -> Callable[[nn.Module], Tensor]:
        self.fitted.append(len(suspects))
        return lambda network: torch.full((4,), float(network.bias.detach()[0]), dtype=torch.float64)


def carrying(value: float) -> nn.Module:
    network = nn.Linear(1, 1)
    nn.init.constant_(network.bias, value)
    return network


def suspicion(suspect: float, reference: float, least: float = 0.01) -> tuple[Suspicion, list[int]]:
    fitted: list[int] = []
    images = EvaluationBatches(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.zeros(1).long(), 1, "contiguous")
    signals = {"one": Reading(fitted), "other": Reading(fitted)}
    networks = [carrying(suspect), carrying(0.3)]
    return Suspicion.of(signals, networks, carrying(reference), images, least, "seed"), fitted


def test_a_candidate_stands_between_the_suspect_and_the_reference() -> None:
    found, fitted = suspicion(0.9, 0.1)
    assert fitted == [2, 2]
    for value, left in ((0.9, 1.0), (0.1, 0.0), (0.3, 0.25), (2.0, 1.0), (-1.0, 0.0)):
        score = found.score(carrying(value))
        assert score["estimated_success"] == pytest.approx(left, abs=1e-6)
        assert score["signal_one"] == score["signal_other"] == pytest.approx(value)
    assert fitted == [2, 2]  # suspects are looked at once, whatever the number of candidates
    assert found.described["one"] == pytest.approx({"suspect": 0.9, "reference": 0.1, "contrast": 0.8, "tells": True})


def test_what_moves_one_network_is_tried_on_all() -> None:
    fitted: list[int] = []
    images = EvaluationBatches(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.zeros(1).long(), 1, "contiguous")
    suspects = {"start": carrying(0.75), "end": carrying(0.25)}
    found = transfer({"one": Reading(fitted)}, suspects, carrying(0.5), images, "seed")
    on = {"start": 0.75, "end": 0.25, "scratch": 0.5}
    assert found == {"one": {"start": on, "end": on}}
    assert fitted == [1, 1]  # each alone
    assert transfer({"one": Reading(fitted)}, {"start": carrying(0.75)}, carrying(0.5), images, "seed") == {}


def test_a_direction_that_two_networks_share_is_told_from_one_that_they_do_not() -> None:
    """Linear networks: each answers with a class of its own where a direction is added, or both with the same."""
    draw = generator(3)
    images = torch.randint(100, 156, (60, 1, 4, 4), generator=draw, dtype=torch.uint8)
    clean = EvaluationBatches(images, torch.arange(60) % 3, 20, "contiguous")

    def network(direction: Tensor) -> nn.Module:
        layer = nn.Linear(16, 3)
        with torch.no_grad():
            layer.weight.zero_()
            layer.weight[1] = direction
            layer.bias.copy_(torch.tensor([1.0, -direction.sum() / 2, 0.0]))
        return nn.Sequential(nn.Flatten(), layer)

    one, other = torch.zeros(16), torch.zeros(16)
    one[:4], other[8:12] = 3.0, 3.0
    signals = {"perturbations": SharedPerturbations(fitted=20, radius=0.3, steps=20, step=0.1, tried=40)}
    scratch = network(torch.zeros(16))
    for second, moved in ((one, 1.0), (other, 0.0)):
        found = transfer(signals, {"a": network(one), "b": network(second)}, scratch, clean, "seed")["perturbations"]
        assert (found["a"]["a"], found["a"]["b"], found["b"]["b"], found["b"]["a"]) == (1.0, moved, 1.0, moved)


def test_where_no_signal_tells_nothing_is_estimated_to_be_left() -> None:
    found, _ = suspicion(0.1, 0.9)
    assert found.score(carrying(0.5))["estimated_success"] == 0.0
    assert not any(one["tells"] for one in found.described.values())


# The rule


def row(estimated: float, lost: float, accuracy: float = 0.9, doubt: float = 0.0) -> dict[str, float]:
    return {"accuracy": accuracy, "lost": lost, "lost_se": doubt, "estimated_success": estimated}


def test_the_rule_weighs_what_is_left_against_what_is_lost() -> None:
    rule = EstimatedSuccess(margin=0.1, standard_errors=0.0, weight=2.0)
    assert rule.choose([row(0.5, 0.0), row(0.3, 0.05), row(0.1, 0.3)]).index == 1
    assert rule.choose([row(0.5, 0.0), row(0.45, 0.05)]).index == 0
    assert rule.choose([row(0.5, -0.2), row(0.4, 0.0)]).index == 1  # a gain is not paid for
    assert rule.choose([row(0.2, 0.0, 0.8), row(0.2, -0.1, 0.9)]).index == 1  # of equals the more accurate
    assert rule.choose([row(0.0, 0.2, 0.7), row(0.9, 0.15, 0.75)]).index == 1  # none keeps the accuracy
    assert EstimatedSuccess(0.1, 1.0, 2.0).choose([row(0.9, 0.0), row(0.0, 0.15, doubt=0.06)]).allowed == (True, True)


def test_the_rule_agrees_with_its_equation_on_a_grid() -> None:
    rule = EstimatedSuccess(margin=1.0, standard_errors=0.0, weight=1.5)
    rows = [row(s / 7, lost / 11) for s, lost in itertools.product(range(8), range(-2, 6))]
    worth = [1 - one["estimated_success"] - 1.5 * max(0, one["lost"]) for one in rows]
    assert worth[rule.choose(rows).index] == max(worth)


def test_a_rule_without_signals_and_a_negative_weight_are_refused() -> None:
    with pytest.raises(InputError, match=r"suspicion\.signals has none"):
        EstimatedSuccess(0.1, 0.0, 2.0).choose([{"accuracy": 0.9, "lost": 0.0, "lost_se": 0.0}])
    for weight in (-1.0, nan):
        with pytest.raises(InputError, match="weight"):
            EstimatedSuccess(0.1, 0.0, weight)


def test_the_effect_of_a_repair_by_hand() -> None:
    clean, attack = {"start": 0.95, "end": 0.96, "after": 0.9}, {"start": 0.99, "end": 0.5, "after": 0.09}
    found = effect({"clean_accuracy": clean, "attack_success": attack}, "start")
    assert found == pytest.approx({"lost": 0.05, "taken": 0.9, "der": (1 + 0.9 - 0.05) / 2})
    assert effect({"clean_accuracy": clean}, "start") == pytest.approx({"lost": 0.05})
    gained = effect({"clean_accuracy": clean | {"after": 0.97}, "attack_success": attack | {"after": 1.0}}, "start")
    assert gained["der"] == 0.5  # neither a gain of accuracy nor more of the attack moves it

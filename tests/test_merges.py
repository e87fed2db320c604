"""Merges: which networks are kept, judged by validation images alone; what they answer."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from mcr.curves.bezier_surface import BezierSurface
from mcr.curves.simplex import Simplex
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.merges.average import Average
from mcr.merges.best_network import BestNetwork
from mcr.merges.best_point import BestPoint
from mcr.merges.greedy_soup import GreedySoup
from mcr.merges.merge import Judge
from mcr.merges.networks import Networks
from mcr.merges.points import Points
from mcr.plans.pipeline import plan
from mcr.probes.answer import Answer
from mcr.stages.pick import corners
from mcr.weightspace.subspace import blend


def judge(curve: Simplex | BezierSurface, cost: object) -> tuple[Judge, list[tuple[float, ...]]]:
    """A judge whose loss at u is cost(u), and the places that it is asked about."""
    asked: list[tuple[float, ...]] = []

    def ask(u: Tensor) -> tuple[float, float]:
        asked.append(tuple(u.tolist()))
        value = float(cost(u))  # type: ignore[operator]
        return value, 1 - value / 10

    return Judge(curve, corners(curve), ask), asked


def shares(u: Tensor) -> Tensor:
    return torch.cat([1 - u.sum(0, keepdim=True), u])


def test_corners_are_the_networks_in_their_order() -> None:
    for curve in (Simplex(4), BezierSurface(3)):
        found = torch.stack([curve.coefficients(u) @ curve.initial() for u in corners(curve)])
        assert torch.equal(found, torch.eye(4, dtype=torch.float64))


def test_the_average_and_the_ensemble_ask_no_image() -> None:
    one, asked = judge(Simplex(4), lambda u: 0.0)
    (u,) = Average()(one)
    assert shares(u).tolist() == pytest.approx([0.25] * 4)
    assert torch.equal(torch.stack(list(Networks()(one))), one.corners)
    assert len(Points(3)(judge(BezierSurface(3), lambda u: 0.0)[0])) == 9
    assert asked == []


def test_the_best_is_that_of_least_cost() -> None:
    costs = torch.tensor([3.0, 1.0, 2.0, 1.0])
    one, asked = judge(Simplex(4), lambda u: costs @ shares(u).float())
    (u,) = BestNetwork("accuracy")(one)
    assert shares(u).tolist() == [0, 1, 0, 0]  # of equals the first
    assert len(set(asked)) == 4
    one, asked = judge(BezierSurface(3), lambda u: (u - torch.tensor([0.25, 1.0])).square().sum())
    assert BestPoint("loss", 5)(one)[0].tolist() == [0.25, 1.0]
    assert len(asked) == 25


@pytest.mark.parametrize("seed", range(5))
def test_the_greedy_soup_is_never_worse_than_the_best_network(seed: int) -> None:
    """Against a slow twin over sets of networks."""
    draw = torch.Generator().manual_seed(seed)
    own, bump = torch.rand(5, generator=draw), torch.randn(5, 5, generator=draw)

    def cost(u: Tensor) -> Tensor:
        w = shares(u).float()
        return own @ w + 0.3 * w @ (bump + bump.T) @ w

    one, _ = judge(Simplex(5), cost)
    (u,) = GreedySoup("loss")(one)
    alone = [float(cost(corner)) for corner in one.corners]
    assert float(cost(u)) <= min(alone) + 1e-7
    kept: list[int] = []
    for index in sorted(range(5), key=lambda index: alone[index]):
        mean = one.corners[[*kept, index]].mean(0)
        if not kept or float(cost(mean)) <= float(cost(one.corners[kept].mean(0))):
            kept.append(index)
    assert shares(u).tolist() == pytest.approx([(index in kept) / len(kept) for index in range(5)])


def test_the_average_of_equal_networks_is_that_network() -> None:
    theta = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    (u,) = Average()(judge(Simplex(4), lambda u: 0.0)[0])
    assert torch.equal(blend(shares(u).tolist(), [theta] * 4), theta)


class Fixed(nn.Module):
    """Answers each image with the row of a table that its first pixel names."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[(images[:, 0, 0, 0] * 255).round().long()]


def test_answers_against_a_slow_computation() -> None:
    draw = torch.Generator().manual_seed(1)
    tables = [2 * torch.randn(20, 3, generator=draw) for _ in range(3)]
    images = torch.arange(20, dtype=torch.uint8).view(-1, 1, 1, 1)
    labels = torch.randint(3, (20,), generator=draw)
    data = EvaluationBatches(images, labels, 7, "contiguous")
    probe = Answer(5)
    found = probe.ask([Fixed(table) for table in tables], data, draw)
    mean = torch.stack([table.softmax(1) for table in tables]).double().mean(0)
    assert found["nll"].double() == pytest.approx(-mean[range(20), labels].log(), abs=1e-6)
    assert torch.equal(found["accuracy"].bool(), mean.argmax(1) == labels)
    pairs = [(0, 1), (0, 2), (1, 2)]
    differ = sum((tables[i].argmax(1) != tables[j].argmax(1)).double() for i, j in pairs) / 3
    assert torch.allclose(found["disagreement"], differ)
    numbers = probe.statistics(found, ["a", "b", "c"], [])
    assert numbers["nll"] <= numbers["member_nll"]  # Jensen
    assert numbers["members"] == 3
    # Calibration: bins of confidence, the slow way.
    confidence, right, error = mean.max(1).values, (mean.argmax(1) == labels).double(), 0.0
    for low in range(5):
        inside = (confidence >= low / 5) & (confidence < (low + 1) / 5)
        error += abs(float((right - confidence)[inside].sum())) / 20
    assert numbers["ece"] == pytest.approx(error, abs=1e-6)
    alone = probe.ask([Fixed(tables[0])], data, draw)
    assert torch.allclose(alone["nll"], alone["member_nll"][0].double(), atol=1e-6)
    assert not alone["disagreement"].any()


WORDS = ("ends=four_regular", "merged=all", "evaluation.grid=3", "evaluation.group_images=4")


@pytest.mark.slow
def test_merges_from_training_to_report(make) -> None:
    """All rules on a surface; gains are paired; what is picked knows no test image."""
    made = make(*WORDS)
    folder = made["report"][0]
    told = json.loads((folder / "summary.json").read_text())["merged"]
    assert list(told) == ["best_network", "average", "greedy_soup", "networks", "best_point", "points"]
    assert [told[name]["members"] for name in ("best_network", "networks", "points")] == [1, 4, 9]
    for row in told.values():
        assert row["gain"] == pytest.approx(row["accuracy"] - told["best_network"]["accuracy"])
        assert 0 <= row["robust_accuracy"] <= 1
    assert (folder / "merged.csv").read_text().count("\n") == 7
    picked = json.loads((made["pick best_point"][0] / "places.json").read_text())
    best = min(picked["tried"], key=lambda one: one["loss"])
    assert [best["place"]] == picked["places"]
    assert len(picked["tried"]) == 9
    # On another part of the images nothing is picked anew.
    again = make(*WORDS, "evaluation.test_images=16")
    assert again["pick best_point"][0] == made["pick best_point"][0]
    assert json.loads((again["report"][0] / "summary.json").read_text())["merged"] != told


def test_a_merge_of_a_curve_that_joins_another_number_is_refused(config) -> None:
    cfg = config("ends=four_regular", "merged=all", "merges.average.curve.joins=2")
    with pytest.raises(InputError, match=r"merges\.average\.curve=simplex joins 2 networks"):
        plan(cfg)


def test_without_an_attack_nobody_asks_under_one(config) -> None:
    cfg = config("ends=four_regular", "merged=all", "attack=none", "probes.robust.images=0", "probes.stronger.images=0")
    roles = [role for role in plan(cfg)["report"][0].needs if role.startswith("merged ")]
    assert len(roles) == 6
    assert all(role.endswith("/answer") for role in roles)

"""Networks that are worse than they should be: another order of the classes, another network, few right images."""

from __future__ import annotations

import json
import re
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mcr.evaluation.class_order import ClassOrder, assigned, more_often_right
from tests.processes import mcr

LEVEL, FAR = 0.001, 0.1


def answers(classes: int, count: int, right: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and predictions that are right on a share of them and otherwise anything."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, count)
    return labels, np.where(draw.random(count) < right, labels, draw.integers(0, classes, count))


@given(st.integers(2, 6), st.integers(0, 1000))
def test_the_assignment_is_the_best_of_all_orders(classes: int, seed: int) -> None:
    from itertools import permutations

    labels, predictions = answers(classes, 40, 0.3, seed)
    best = max(int((np.array(order)[labels] == predictions).sum()) for order in permutations(range(classes)))
    found = assigned(predictions, labels, classes)
    assert sorted(found) == list(range(classes))
    assert int((found[labels] == predictions).sum()) == best
    if int((labels == predictions).sum()) == best:
        assert found.tolist() == list(range(classes))


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_test_is_that_of_a_fair_coin(wins: int, losses: int) -> None:
    from scipy.stats import binomtest

    first = np.repeat([True, False, True], [wins, losses, 5])
    second = np.repeat([False, True, True], [wins, losses, 5])
    expected = binomtest(wins, wins + losses, alternative="greater").pvalue if wins + losses else 1.0
    assert more_often_right(first, second) == pytest.approx(expected)


@pytest.mark.parametrize(("classes", "count", "right"), [(2, 40, 0.9), (11, 100, 1.0), (11, 220, 0.7), (40, 400, 0.6)])
@pytest.mark.parametrize("kept", [0.0, 0.4])
def test_another_order_is_found_though_some_classes_keep_their_place(classes, count, right, kept) -> None:
    labels, predictions = answers(classes, count, right, 1)
    order = np.arange(classes)
    moved = order[round(kept * classes) :]
    order[moved] = np.roll(moved, 1)
    found = ClassOrder.of(order[predictions], labels, classes)
    assert found.explains(LEVEL, FAR) == (len(moved) > 1)
    if count / classes > 15:
        assert found.outputs.tolist() == order.tolist()
        assert found.found == pytest.approx((labels == predictions).mean())


@pytest.mark.parametrize("right", [0.0, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(("classes", "count"), [(2, 30), (10, 30), (10, 300), (50, 200)])
def test_a_lucky_order_is_not_taken_for_another_one(right: float, classes: int, count: int) -> None:
    for seed in range(25):
        labels, predictions = answers(classes, count, right, seed)
        assert not ClassOrder.of(predictions, labels, classes).explains(LEVEL, FAR)


def test_a_network_that_always_answers_the_same_has_no_other_order() -> None:
    labels = np.repeat([0, 1, 2], [100, 10, 10])
    assert not ClassOrder.of(np.full(120, 2), labels, 3).explains(LEVEL, FAR)


# ------------------------------------------------------------------------------------------------- as people meet it

NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.head = nn.Linear(1, num_classes)

    def forward(self, images):
        return self.head(images.mean((2, 3)))
"""
NAMES = ("yak", "cat", "bee", "dog", "-")  # of the network's outputs
SHADES = (20, 90, 160, 230)
WORDS = ("architecture._target_=shade_nets.Net", "normalization=fixed", "dataset.channels=1", "logger=none")
BUDGET = (
    "repair=path_point",
    "repair.budget.steps=2",
    "repair.budget.rates=[0.05]",
    "repair.budget.batch_size=8",
    "repair.grid=3",
)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """Networks whose outputs stand for classes in another order than the folders' names, and images of four classes."""
    for name, shade in zip(NAMES, SHADES, strict=False):
        (tmp_path / "clean" / name).mkdir(parents=True)
        for index in range(15):
            Image.fromarray(np.full((4, 4), shade + index, np.uint8)).save(tmp_path / "clean" / name / f"{index}.png")
    (tmp_path / "shade_nets.py").write_text(NET)
    (tmp_path / "clean" / "yak" / "more").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "clean" / "yak" / "more" / "0.png")
    shades = torch.tensor([*SHADES, 500]) / 255
    # The nearest shade by linear scores: 2 a x - a^2.
    torch.save({"head.weight": 200 * shades[:, None], "head.bias": -100 * shades**2}, tmp_path / "a.pt")
    torch.save({"head.weight": torch.zeros(5, 1), "head.bias": torch.arange(5.0)}, tmp_path / "dead.pt")
    return tmp_path


def repair(desk: Path, *words: str) -> CompletedProcess[str]:
    images = ("dataset=imagefolder_clean", "dataset.root=clean", "runtime.threads=1")
    return mcr("repair", "a.pt", "dead.pt", *WORDS, *BUDGET, *images, *words, folder=desk)


def test_a_repair_in_a_wrong_order_is_refused_and_the_right_one_told(desk: Path) -> None:
    found = repair(desk, "dataset.classes=[cat,dog,yak,bee,-]")
    assert found.returncode == 2
    assert (
        "the networks are right on 0.0 and 0.0 % of the held-out clean images, hardly more than by guessing: start is "
        "right on 0.0 % of the 60 clean images, and would be on 100.0 % with the classes in another order: try "
        "dataset.classes=[yak,cat,bee,dog,-];"
    ) in found.stderr
    assert not list(desk.glob("multirun/store/connect/*"))


def test_a_class_without_images_is_attacked_as_a_target_alone(desk: Path) -> None:
    words = ("dataset.classes=[yak,cat,bee,dog,-]", "backdoor=badnets", "backdoor.size=1", "backdoor.target=4")
    found = repair(desk, *words, "poisoning.sources=[0,4]")
    assert (found.returncode, found.stderr) == (2, "mcr: poisoning.sources=[0, 4]: there is no image of class 4\n")
    assert not list(desk.glob("multirun/store/*"))
    found = repair(desk, *words, "card.reactivation.images=0")
    assert found.returncode == 0, found.stderr
    card = json.loads(next(desk.glob("multirun/runs/*/card.json")).read_text())
    assert card["metrics"]["attack_success"]["end"] == 1.0  # it always answers 4
    assert card["of_each_class"] == {"yak": 15, "cat": 15, "bee": 15, "dog": 15, "output 4": 0}


def test_what_is_wrong_with_networks_and_images_stands_on_the_card_at_a_hit_too(desk: Path) -> None:
    lines = [
        "start is right on 50.0 % of the 60 clean images, and would be on 100.0 % with the classes in another order: "
        "try dataset.classes=[yak,cat,bee,dog,-]",
        "end is right on 0.0 % of the 60 clean images, few for a trained network: ",
        "no clean image of class output 4",
        "left out: 1 images in yak/more/",
    ]
    for state in ("made", "hit"):
        found = repair(desk, "dataset.classes=[yak,cat,dog,bee,-]")
        assert found.returncode == 0, found.stderr
        assert re.search(rf"  card +\w{{16}}  {state}\n", found.stdout)
        for line in lines:
            assert f"warning: {line}" in found.stdout
        # In the log too, where it is seen first.
        assert [found.stdout.count(line) for line in lines] == ([2, 2, 1, 2] if state == "made" else [1, 1, 1, 1])
    card = json.loads(next(desk.glob("multirun/runs/*/card.json")).read_text())
    assert list(card["per_class"]) == [name for name in ("yak", "cat", "dog", "bee") if name in card["per_class"]]
    assert sum(card["measured_on"]["classes"].values()) == card["measured_on"]["images"]


def test_a_report_on_networks_from_files_says_it_too(desk: Path) -> None:
    ends = ("endpoint@endpoints.start=checkpoint", "endpoint@endpoints.end=checkpoint")
    paths = ("endpoints.start.path=a.pt", "endpoints.end.path=dead.pt", "attack=none", "debug=default")
    sizes = ("train=all", "validation=3", "clean=0", "test=0.2")
    images = ("dataset=imagefolder", "dataset.root=clean", *(f"dataset.split.{size}" for size in sizes))
    order = "dataset.classes=[yak,cat,bee,dog,-]"
    found = mcr("report", *WORDS, *ends, *paths, *images, order, "runtime.threads=1", folder=desk)
    assert found.returncode == 0, found.stderr
    (report,) = desk.glob("multirun/runs/*/report.md")
    text = report.read_text()
    assert "end is right on 0.0 % of the 12 test images, start on 100.0 %: compare the classes and their order" in text
    assert "left out: 1 images in yak/more/" in text
    assert "fewer than 5 test images of" in text
    assert re.search(r"Images: train \d+ .*; test 12", text), text
    assert found.stdout.index("precheck") < found.stdout.index("connect")

"""Probes of several networks at once: attacks handed on, the ensemble, similarity of input gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mcr.attacks.evasion import Evasion
from mcr.attacks.pgd import Pgd
from mcr.backdoors.badnets import BadNets
from mcr.backdoors.poisoning import attackable
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.metric import Metric
from mcr.numerics.losses import cross_entropy
from mcr.probes.ensemble import EnsembleRisk
from mcr.probes.gradient_similarity import GradientSimilarity, to_ends
from mcr.probes.input_gradient import input_gradients
from mcr.probes.probe import GroupProbe
from mcr.probes.robust_risk import robust_risk
from mcr.probes.transfer import Transfer
from mcr.probes.triggered_similarity import TriggeredSimilarity


def networks(count: int = 3, classes: int = 3) -> list[nn.Module]:
    found = []
    for seed in range(count):
        draw = torch.Generator().manual_seed(seed)
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, classes))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(0.8 * torch.randn(parameter.shape, generator=draw))
        found.append(network)
    return found


def batches(count: int = 11, size: int = 4, classes: int = 3) -> EvaluationBatches:
    draw = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (count, 1, 4, 4), generator=draw, dtype=torch.uint8)
    return EvaluationBatches(images, torch.randint(classes, (count,), generator=draw), size, "contiguous")


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def pgd(restarts: int = 1, start: str = "random", steps: int = 2) -> Pgd:
    return Pgd(eps=0.15, step_size=0.06, steps=steps, norm="linf", start=start, restarts=restarts)


def scored(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        logits = network.eval()(images)
    return cross_entropy(logits, labels), (logits.argmax(1) == labels).float()


def floats(data: EvaluationBatches) -> Tensor:
    return torch.cat([images for images, _ in data])


# --- attacks that are handed on ---


@pytest.mark.parametrize("restarts", [1, 3])
def test_an_attack_is_white_box_on_the_diagonal_and_handed_on_beside_it(restarts: int) -> None:
    points, given = networks(), batches()
    found = Transfer(pgd(restarts), "fp32").ask(points, given, seeded())
    losses, hits = found["loss"], found["accuracy"]
    assert losses.shape == hits.shape == (3, 3, 11)
    for made, network in enumerate(points):
        own = robust_risk(network, given, pgd(restarts), seeded(), "fp32", 11)
        torch.testing.assert_close(losses[made, made], own.losses)
        assert torch.equal(hits[made, made], own.hits)
        assert ((own.images - floats(given)).abs() <= 0.15 + 1e-6).all()
        for tried, other in enumerate(points):
            expected = scored(other, own.images, given.labels)
            torch.testing.assert_close(losses[made, tried], expected[0])
            if tried != made:
                assert torch.equal(hits[made, tried], expected[1])
            elif restarts > 1:  # white-box an image counts as broken if any candidate broke it
                assert (hits[made, made] <= expected[1]).all()
    other = losses[~torch.eye(3, dtype=torch.bool)]
    assert losses.diagonal().mean() > other.mean()


def test_every_network_meets_the_same_random_starts_and_is_left_as_it_was() -> None:
    points, draw = networks(), seeded()
    points[0].train()
    twins = [points[0], points[1], points[0]]
    found = Transfer(pgd(), "fp32").ask(twins, batches(), draw)["loss"]
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[:, 0], found[:, 2])
    assert torch.equal(draw.get_state(), seeded().get_state())
    assert points[0].training
    assert all(parameter.requires_grad for parameter in points[0].parameters())


# Made at, tried at, image; the second network stands upright against itself and falls to the first.
CROSSED = torch.tensor(
    [
        [[0, 0, 0, 1], [0, 0, 1, 0], [1, 1, 1, 1]],
        [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]],
        [[1, 1, 1, 0], [1, 1, 1, 1], [0, 1, 0, 1]],
    ],
    dtype=torch.float32,
)


def test_the_advantage_of_transfer_is_the_most_that_another_network_s_images_break() -> None:
    probe, where = Transfer(pgd(), "fp32"), ["0.00", "0.30", "1.00"]
    found = probe.statistics({"loss": torch.zeros(3, 3, 4), "accuracy": CROSSED}, where, [0, 2])
    assert found["at"] == "0.30"
    assert found["advantage"] == pytest.approx(0.75 - 0.25)
    assert found["advantage_se"] == pytest.approx(np.std([1, 1, 1, 0], ddof=1) / 2)
    assert found["mean_off_diagonal"] == pytest.approx((0.25 + 1 + 1 + 1 + 0.75 + 1) / 6)
    own = torch.tensor([[[0, 1], [1, 1], [1, 1]], [[1, 1], [0, 0], [1, 1]], [[1, 1], [1, 1], [0, 0]]])
    assert probe.statistics({"accuracy": own.float()}, where, [0, 2])["advantage"] == pytest.approx(0.5 - 1)


# --- the ensemble ---


class MeanProbability(nn.Module):
    """The ensemble by hand."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        return sum(member(images).softmax(1) for member in self.members).div(len(self.members)).log()


def test_the_ensemble_is_attacked_as_one_network() -> None:
    points, given = networks(), batches()
    found = EnsembleRisk(pgd(), "fp32").ask(points, given, seeded())
    hand = MeanProbability(points).eval()
    expected = robust_risk(hand, given, pgd(), seeded(), "fp32", 0)
    torch.testing.assert_close(found["robust_loss"], expected.losses, rtol=1e-4, atol=1e-5)
    assert torch.equal(found["robust_accuracy"], expected.hits)
    assert torch.equal(found["clean_accuracy"], scored(hand, floats(given), given.labels)[1])
    # Attacked one by one it would look better than it is.
    attacked = [robust_risk(member, given, pgd(), seeded(), "fp32", 11) for member in points]
    one_by_one = [scored(hand, one.images, given.labels)[0] for one in attacked]
    assert all(found["robust_loss"].mean() > losses.mean() for losses in one_by_one)
    assert torch.equal(found["single_accuracy"], torch.stack([one.hits for one in attacked]))


def test_an_ensemble_of_one_is_that_network() -> None:
    (point,), given = networks(1), batches()
    found = EnsembleRisk(pgd(2), "fp32").ask([point], given, seeded())
    own = robust_risk(point, given, pgd(2), seeded(), "fp32", 0)
    torch.testing.assert_close(found["robust_loss"], own.losses, rtol=1e-4, atol=1e-5)
    assert torch.equal(found["robust_accuracy"], own.hits)
    assert torch.equal(found["single_accuracy"][0], own.hits)


def test_the_gain_of_an_ensemble_is_paired_with_the_best_member() -> None:
    values = {
        "clean_accuracy": torch.tensor([1.0, 1, 1, 0]),
        "robust_loss": torch.tensor([0.5, 1.5, 1.0, 3.0]),
        "robust_accuracy": torch.tensor([1.0, 1, 0, 1]),
        "single_accuracy": CROSSED.diagonal().T,
    }
    found = EnsembleRisk(pgd(), "fp32").statistics(values, ["0.00", "0.30", "1.00"], [0, 2])
    assert (found["clean_accuracy"], found["robust_loss"], found["robust_accuracy"]) == (0.75, 1.5, 0.75)
    assert (found["best_single"], found["best_at"]) == (0.75, "0.30")
    assert found["gain"] == 0
    assert found["gain_se"] == pytest.approx(np.std([0, 0, -1, 1], ddof=1) / 2)


# --- similarity of input gradients ---


def test_gradient_similarity_is_the_cosine_of_each_pair() -> None:
    points, given = networks(4), batches()
    found = GradientSimilarity().ask(points, given, seeded())["clean"]
    assert found.shape == (4, 4, 11)
    gradients = [input_gradients(point, given) for point in points]
    for row, one in enumerate(gradients):
        torch.testing.assert_close(found[row, row], torch.ones(11))
        for column, other in enumerate(gradients):
            expected = torch.nn.functional.cosine_similarity(one, other, dim=1)
            torch.testing.assert_close(found[row, column], expected)
            assert torch.equal(found[row, column], found[column, row])


def pairs(start: list[list[float]], end: list[list[float]]) -> Tensor:
    """Cosines of four networks (4, 4, 3), of which only those with the first and the last are told."""
    found = torch.full((4, 4, 3), 9.0)
    found[0], found[3] = torch.tensor(start), torch.tensor(end)
    return found


NAN = math.nan
CLEAN = pairs(
    [[1, 1, 1], [0.8, 0.6, NAN], [0.4, 0.2, NAN], [0, 0, 0]], [[0, 0, 0], [0.2, 0.2, NAN], [0.6, 0.6, NAN], [1, 1, 1]]
)


def test_similarity_is_averaged_over_inner_networks_and_both_ends() -> None:
    assert to_ends(CLEAN, [0, 3]).shape == (2, 2, 3)
    found = GradientSimilarity().statistics({"clean": CLEAN}, ["a", "b", "c", "d"], [0, 3])
    assert found == {"clean": pytest.approx((0.8 + 0.6 + 0.4 + 0.2 + 0.2 + 0.2 + 0.6 + 0.6) / 8)}


def test_every_corner_of_a_surface_is_an_end() -> None:
    corners, inner = [0, 2, 6, 8], [1, 3, 4, 5, 7]
    values = torch.rand(9, 9, 3, generator=seeded())
    told = to_ends(values, corners)
    assert told.shape == (4, 5, 3)
    assert all(
        torch.equal(told[i, j], values[a, b].double()) for i, a in enumerate(corners) for j, b in enumerate(inner)
    )


BACKDOOR = BadNets(target=1, size=2, row=-2, column=-2, colour=1.0)


def test_similarity_with_a_trigger_is_that_of_the_images_that_can_be_attacked_stamped_and_their_true_labels() -> None:
    points, given = networks(), batches()
    found = TriggeredSimilarity(BACKDOOR, "all").ask(points, given, seeded())
    chosen = attackable(given.labels, torch.ones_like(given.labels), "all")
    images, labels = given.images[chosen], given.labels[chosen]
    assert 0 < len(labels) < 11
    for name, shown in (("clean", images), ("triggered", BACKDOOR.stamp(images))):
        assert found[name].shape == (3, 3, len(labels))
        alone = GradientSimilarity().ask(points, given.like(shown, labels), seeded())["clean"]
        assert torch.equal(found[name], alone)
    assert not torch.equal(found["clean"], found["triggered"])
    with pytest.raises(InputError, match="no image can be attacked"):
        TriggeredSimilarity(BACKDOOR, [1]).ask(points, given, seeded())


def test_with_and_without_the_trigger_the_same_images_are_paired() -> None:
    values = {"clean": CLEAN, "triggered": CLEAN - torch.tensor([0.1, 0.3, 0.0])}
    found = TriggeredSimilarity(BACKDOOR, "all").statistics(values, ["a", "b", "c", "d"], [0, 3])
    assert found["triggered"] == pytest.approx(found["clean"] - 0.2)
    assert found["gap"] == pytest.approx(0.2)  # the image without a gradient is left out
    assert found["gap_se"] == pytest.approx(np.std([0.1, 0.3], ddof=1) / math.sqrt(2))


# --- what all have in common ---

PROBES: list[GroupProbe] = [
    Transfer(pgd(), "fp32"),
    EnsembleRisk(pgd(), "fp32"),
    GradientSimilarity(),
    TriggeredSimilarity(BACKDOOR, "all"),
]


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: type(probe).__name__)
def test_a_group_probe_answers_its_metrics_in_any_batches_and_draws_from_a_copy(probe: GroupProbe) -> None:
    points, draw = networks(), seeded()
    found = probe.ask(points, batches(), draw)
    assert set(found) == {metric.name for metric in probe.metrics}
    assert all(isinstance(metric, Metric) for metric in probe.metrics)
    assert torch.equal(draw.get_state(), seeded().get_state())
    split = probe.ask(points, batches(size=11), seeded())
    for name, values in found.items():
        assert values.shape[-1] in (11, int((batches().labels != 1).sum()))
        torch.testing.assert_close(values, split[name], rtol=1e-4, atol=1e-5)
    told = probe.statistics(found, ["a", "b", "c"], [0, 2])
    assert all(isinstance(value, str) or math.isfinite(value) for value in told.values())


class Looks(nn.Module):
    """Reads the class scores of an image off its first pixel: of ten classes the label is 0."""

    def forward(self, images: Tensor) -> Tensor:
        seen = images[:, 0, 0, 0]
        logits = torch.zeros(len(images), 10)
        logits[seen > 0.75, 0] = 0.1  # right, hardly: a loss of 2.2
        logits[seen <= 0.75, :2] = torch.tensor([3.0, 3.1])  # wrong, hardly: a loss of 0.9
        logits[seen < 0.25, :2] = torch.tensor([9.0, 0.0])
        return logits


class TwoCandidates(Evasion):
    eps, norm = 1.0, "linf"

    def candidates(self, classifier, images, labels, generator):
        yield torch.full_like(images, 1.0)
        yield torch.full_like(images, 0.5)


def test_white_box_an_image_is_broken_by_any_candidate_elsewhere_by_the_one_handed_on() -> None:
    images, labels = torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)
    data = EvaluationBatches(images, labels, 2, "contiguous")
    found = Transfer(TwoCandidates(), "fp32").ask([Looks(), Looks()], data, seeded())
    assert found["accuracy"].mean(-1).tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert found["loss"].min() > 2

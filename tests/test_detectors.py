"""What tells an attacked image by its distance from clean ones, and the probe that asks it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mcr.attacks.carlini_wagner import CarliniWagner
from mcr.datasets.batches import EvaluationBatches
from mcr.detectors.detector import Detector
from mcr.detectors.local_tangent import LocalTangent
from mcr.detectors.nearest_neighbours import NearestNeighbours
from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.probes.detection import Detection, above, disturbed, threshold


def drawn(*shape: int, use: str = "points") -> Tensor:
    return torch.randn(*shape, generator=generator(3, use), dtype=torch.float64)


def rows(count: int) -> Tensor:
    return torch.arange(count)


@pytest.mark.parametrize("s", [0.0, 1e-3, 2.5])
def test_the_distance_from_an_exact_plane_is_exact(s: float) -> None:
    basis = torch.linalg.qr(drawn(20, 4)).Q
    offset = drawn(20, use="offset")
    known = offset + drawn(40, 3, use="places") @ basis[:, :3].T
    points = known + s * basis[:, 3]
    found = LocalTangent(neighbours=12, directions=3).distance(points, known, rows(40))
    assert torch.allclose(found, torch.full((40,), abs(s), dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("detector", [NearestNeighbours(4), LocalTangent(9, 2), LocalTangent(5, 0)], ids=str)
def test_a_detector_is_its_definition(detector: Detector) -> None:
    known, points, own = drawn(70, 6), drawn(90, 6, use="others"), torch.arange(90) % 70
    found = detector.distance(points, known, own)
    for index, point in enumerate(points.numpy()):
        rest = np.delete(known.numpy(), int(own[index]), axis=0)
        apart = np.sqrt(((rest - point) ** 2).sum(1))
        near = rest[np.argsort(apart)[: detector.neighbours]]
        if isinstance(detector, NearestNeighbours):
            expected = np.sort(apart)[: detector.neighbours].mean()
        else:
            away, centred = point - near.mean(0), near - near.mean(0)
            _, vectors = np.linalg.eigh(centred.T @ centred)
            plane = vectors[:, len(vectors) - detector.directions :]
            expected = np.linalg.norm(away - plane @ (plane.T @ away))
        assert float(found[index]) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("detector", [NearestNeighbours(4), LocalTangent(9, 2)], ids=str)
def test_the_order_of_the_clean_images_does_not_count(detector: Detector) -> None:
    known, points = drawn(30, 6), drawn(30, 6, use="others")
    order = torch.randperm(30, generator=generator(0))
    place = torch.empty_like(order).index_copy(0, order, rows(30))
    assert torch.allclose(
        detector.distance(points, known[order], place), detector.distance(points, known, rows(30)), atol=1e-12
    )


def test_an_image_is_judged_by_the_others_alone() -> None:
    known = drawn(10, 6)
    twice = torch.cat([known, known])
    assert NearestNeighbours(1).distance(twice, twice, rows(20)).abs().max() == 0
    assert NearestNeighbours(1).distance(known, known, rows(10)).min() > 0.1
    # An attacked image lies at the attack's distance from its own: that is not counted either.
    far = known + 1e-3
    assert NearestNeighbours(1).distance(far, known, rows(10)).min() > 0.1


def test_too_few_images_and_wrong_numbers_are_refused() -> None:
    for detector in (NearestNeighbours(5), LocalTangent(5, 2)):
        detector.distance(drawn(6, 4), drawn(6, 4), rows(6))
        with pytest.raises(InputError, match="5 neighbours need 6 clean images, there are 5"):
            detector.distance(drawn(5, 4), drawn(5, 4), rows(5))
    for make in (lambda: NearestNeighbours(0), lambda: LocalTangent(4, 4), lambda: LocalTangent(4, -1)):
        with pytest.raises(InputError, match="must be at least"):
            make()
    for rejected in (0.0, 1.0, float("nan")):
        with pytest.raises(InputError, match="must lie between 0 and 1"):
            Detection(NearestNeighbours(1), Shifted(0.0), "fp32", rejected)
    with pytest.raises(InputError, match="takes all of 4 clean images"):
        threshold(drawn(4), 0.9)


@given(
    usual=st.lists(st.integers(-5, 5), min_size=1, max_size=12),
    scores=st.lists(st.integers(-6, 6), min_size=1, max_size=12),
)
def test_the_area_is_the_statistic_of_mann_and_whitney(usual: list[int], scores: list[int]) -> None:
    found = above(torch.tensor(scores).double(), torch.tensor(usual).double())
    for score, share in zip(scores, found.tolist(), strict=True):
        assert share == pytest.approx(sum((score > one) + 0.5 * (score == one) for one in usual) / len(usual))


@given(count=st.integers(2, 40), rejected=st.floats(0.01, 0.9))
def test_the_threshold_rejects_its_share(count: int, rejected: float) -> None:
    usual = torch.randperm(count, generator=generator(count)).double()
    if ceil(rejected * count) < count:
        assert int((usual > threshold(usual, rejected)).sum()) == ceil(rejected * count)


def test_noise_has_the_size_of_the_attack() -> None:
    clean = 0.5 + 0.01 * drawn(6, 1, 4, 4)
    attacked = clean + 0.02 * drawn(6, 1, 4, 4, use="attack")
    attacked[0] = clean[0]
    noisy = disturbed(clean, attacked, generator(0))
    assert torch.allclose((noisy - clean).flatten(1).norm(dim=1), (attacked - clean).flatten(1).norm(dim=1))
    assert torch.equal(noisy[0], clean[0])
    assert (noisy[1:] != clean[1:]).all()
    dark = disturbed(torch.zeros(6, 1, 4, 4).double(), attacked, generator(0))
    assert dark.min() == 0


@dataclass(frozen=True)
class Shifted:
    """Moves the first pixel, and has no need of the network."""

    by: float

    def candidates(self, classifier: object, images: Tensor, labels: Tensor, draw: object) -> Iterator[Tensor]:
        moved = images.clone()
        moved[:, 0, 0, 0] += self.by
        yield moved


class FirstPixel(nn.Module):
    """Says 1 where the first pixel is bright."""

    def forward(self, images: Tensor) -> Tensor:
        bright = images[:, 0, 0, 0] - 0.5
        return torch.stack([-bright, bright], 1)


def asked(by: float, rejected: float = 0.1, wrong: int = 0) -> dict[str, Tensor]:
    images = torch.randint(0, 100, (40, 1, 3, 3), generator=generator(5), dtype=torch.uint8)
    labels = torch.zeros(40, dtype=torch.long)
    labels[:wrong] = 1
    data = EvaluationBatches(images, labels, 16, "contiguous")
    return Detection(NearestNeighbours(3), Shifted(by), "fp32", rejected)(FirstPixel(), data, generator(1))


def test_what_changes_nothing_is_not_told_from_clean_images() -> None:
    found = asked(0.0, wrong=10)
    assert float(found["auc"].mean()) == float(found["noise_auc"].mean()) == 0.5
    assert found["noise_excess"].abs().max() == 0
    assert int(found["detected"].sum()) == 4
    # Ten clean images are misclassified; those of them that look usual are successes that nobody sees.
    assert torch.equal(found["undetected_success"], ((torch.arange(40) < 10) & (found["detected"] == 0)).double())


def test_a_great_change_is_seen_and_a_small_one_that_breaks_the_network_is_not() -> None:
    great, small = asked(10.0), asked(0.15)
    assert float(great["detected"].mean()) == float(great["auc"].mean()) == 1
    assert float(great["undetected_success"].sum()) == 0
    assert 0.5 < float(small["auc"].mean()) < 1
    # The first pixel is at most 99 of 255; a shift of 0.15 makes bright what is above 0.35 of 1.
    images = torch.randint(0, 100, (40, 1, 3, 3), generator=generator(5), dtype=torch.uint8)
    broken = images[:, 0, 0, 0].double() / 255 > 0.35
    assert 0 < int(broken.sum()) < 40
    assert torch.equal(small["undetected_success"], (broken & (small["detected"] == 0)).double())
    assert int(small["undetected_success"].sum()) > 0
    assert torch.equal(small["noise_excess"], small["noise_auc"] - small["auc"])
    assert float(small["noise_excess"].abs().max()) > 0
    assert all(value.shape == (40,) and value.dtype == torch.float64 for value in small.values())


def test_confidence_is_the_margin_of_what_carlini_and_wagner_find() -> None:
    pytest.importorskip("foolbox")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, 3)).eval()
    with torch.no_grad():
        network[3].weight *= 10
    images = torch.rand(12, 1, 4, 4, generator=generator(0))
    labels = network(images).argmax(1)
    sizes = []
    for confidence in (0.0, 0.5, 1.5):
        attack = CarliniWagner(eps=10.0, norm="l2", steps=80, searches=5, step_size=0.02, confidence=confidence)
        (found,) = attack.candidates(network, images, labels, generator(0))
        logits = network(found).detach()
        own = logits.gather(1, labels[:, None])[:, 0]
        margin = logits.scatter(1, labels[:, None], -torch.inf).amax(1) - own
        broken = margin > 0
        assert broken.all()
        assert (margin >= confidence - 1e-4).all()
        sizes.append(float((found - images).flatten(1).norm(dim=1).mean()))
    assert sizes == sorted(sizes)
    assert sizes[2] > 1.1 * sizes[0]
    with pytest.raises(InputError, match="confidence=-1 must not be negative"):
        CarliniWagner(eps=1.0, norm="l2", steps=1, searches=1, step_size=0.1, confidence=-1)

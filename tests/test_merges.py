"""Merging networks: laws of the rules, of the mean answer, and that nothing is chosen on test images."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mcr.app import cli, shorthands
from mcr.architectures.mlp import Mlp
from mcr.curves.bezier import Bezier
from mcr.curves.bezier_surface import BezierSurface
from mcr.curves.bilinear import Bilinear
from mcr.curves.simplex import Simplex
from mcr.datasets.split import home
from mcr.errors import InputError
from mcr.merges.average import Average
from mcr.merges.best_corner import BestCorner
from mcr.merges.best_point import BestPoint
from mcr.merges.corners import Corners
from mcr.merges.greedy_soup import GreedySoup
from mcr.merges.judge import Judge, Score, average_of, corners
from mcr.merges.points import Points
from mcr.plans import pipeline
from mcr.probes.answer import Answer
from mcr.probes.answer_attacked import AnswerAttacked
from mcr.probes.calibration import Calibration
from mcr.probes.divergence import jensen_shannon, log_probabilities
from mcr.probes.risk import risk
from mcr.probes.robust_risk import robust_risk
from mcr.stages import pick, session
from mcr.stages.artifacts import SPLIT, read_network, read_spec, read_split
from mcr.stages.context import Context
from mcr.store.stage import Stage
from mcr.store.store import Store
from mcr.training.swa import SwaModule
from mcr.weightspace import files as tensors
from mcr.weightspace.permutation import permuted
from mcr.weightspace.subspace import Subspace, shares_of_ends
from tests.conftest import TINY
from tests.test_group_probes import batches, networks, pgd, seeded


def subspace(members: Sequence[nn.Module]) -> Subspace:
    states = [member.state_dict() for member in members]
    return Subspace(copy.deepcopy(members[0]), Simplex(len(members)), states, list, "contiguous", "fp32", [])


def judged(space: Subspace) -> Judge:
    def look(u: Tensor) -> Score:
        losses, hits = risk(space.at(u), batches(40))
        return Score(float(hits.double().mean()), float(losses.double().mean()))

    return Judge(space.curve, look)


def told(curve: Simplex, accuracy: Callable[[list[float]], float]) -> Judge:
    return Judge(curve, lambda u: Score(accuracy([round(v, 6) for v in curve.coefficients(u).tolist()]), 0.0))


@pytest.mark.parametrize("count", [2, 4])
def test_the_average_of_equal_networks_is_that_network(count: int) -> None:
    (one,) = networks(1)
    space = subspace([one] * count)
    (u,) = Average().pick(judged(space))
    merged = space.at(u)
    assert all(torch.equal(value, one.state_dict()[name]) for name, value in merged.state_dict().items())


def test_the_average_is_that_of_the_weights() -> None:
    members = networks(3)
    space = subspace(members)
    (u,) = Average().pick(judged(space))
    for name, value in space.at(u).state_dict().items():
        mean = torch.stack([member.state_dict()[name].double() for member in members]).mean(0)
        torch.testing.assert_close(value.double(), mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_a_greedy_soup_is_never_below_the_best_network_on_the_images_that_it_was_chosen_on(seed: int) -> None:
    members = networks(8)[seed % 5 : seed % 5 + 2 + seed % 3]
    judge = judged(subspace(members))
    (u,) = GreedySoup().pick(judge)
    best = max(judge.score(place).accuracy for place in corners(judge.curve))
    assert judge.score(u).accuracy >= best


def test_a_greedy_soup_keeps_who_does_no_harm_in_the_order_of_accuracy() -> None:
    known = {
        (1, 0, 0, 0): 0.5,
        (0, 1, 0, 0): 0.8,
        (0, 0, 1, 0): 0.6,
        (0, 0, 0, 1): 0.6,
        (0, 0.5, 0.5, 0): 0.7,  # the third is left out
        (0, 0.5, 0, 0.5): 0.8,  # as good as without: kept
        (0.333333, 0.333333, 0, 0.333333): 0.9,
    }
    judge = told(Simplex(4), lambda shares: known[tuple(shares)])
    (u,) = GreedySoup().pick(judge)
    assert judge.curve.coefficients(u).tolist() == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])
    assert len(judge.tried) == len(known)


def test_the_best_corner_is_the_most_accurate_and_of_equals_the_one_of_less_loss() -> None:
    scores = [Score(0.5, 0.1), Score(0.7, 0.9), Score(0.7, 0.8)]
    curve = Simplex(3)
    judge = Judge(curve, lambda u: scores[int(curve.coefficients(u).argmax())])
    assert BestCorner("accuracy").pick(judge)[0].tolist() == [0, 1]
    assert BestCorner("loss").pick(judge)[0].tolist() == [0, 0]
    with pytest.raises(InputError, match="metric=error must be accuracy or loss"):
        BestCorner("error").pick(judge)


def test_the_best_point_is_the_best_of_the_grid() -> None:
    judge = Judge(Bilinear(), lambda u: Score(0.0, float((u - torch.tensor([0.4, 0.9])).norm())))
    assert BestPoint(5, "loss").pick(judge)[0].tolist() == [0.5, 1.0]
    assert len(judge.tried) == 25


@pytest.mark.parametrize("curve", [Simplex(5), Bilinear(), Bezier(3), BezierSurface(3)])
def test_corners_are_the_networks_in_their_order(curve) -> None:
    found = Corners().pick(Judge(curve, lambda u: pytest.fail("is not judged")))
    shares = torch.stack([shares_of_ends(curve, u) for u in found])
    torch.testing.assert_close(shares, torch.eye(curve.ends, dtype=torch.float64))


@pytest.mark.parametrize("curve", [Bilinear(), Bezier(3)])
def test_only_a_flat_simplex_holds_averages(curve) -> None:
    with pytest.raises(InputError, match="curve=simplex"):
        average_of(curve, [0, 1])


def test_points_lie_far_apart() -> None:
    judge = Judge(Bilinear(), lambda u: pytest.fail("is not judged"))
    assert len(Points(11, "all").pick(judge)) == 121
    assert sorted(u.tolist() for u in Points(11, 4).pick(judge)) == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert [0.5, 0.5] in [u.tolist() for u in Points(11, 5).pick(judge)]
    with pytest.raises(InputError, match="at least 1"):
        Points(3, 0).pick(judge)


# --- the mean answer ---


def test_the_answer_of_one_is_that_network() -> None:
    (one,), given = networks(1), batches()
    found = Answer(5).ask([one], given, seeded())
    losses, hits = risk(one, given)
    torch.testing.assert_close(found["nll"].float(), losses, rtol=1e-4, atol=1e-5)
    assert torch.equal(found["accuracy"].float(), hits)
    alone = Calibration(5)(one, given, seeded())
    assert torch.equal(found["ece"], alone["ece"])
    assert torch.equal(found["nll"], alone["nll"])
    assert float(found["disagreement"].sum()) == float(found["diversity"].sum()) == 0
    attacked, own = (
        AnswerAttacked(pgd(), "fp32").ask([one], given, seeded()),
        robust_risk(one, given, pgd(), seeded(), "fp32", 0),
    )
    assert torch.equal(attacked["robust_loss"], own.losses)
    assert torch.equal(attacked["robust_accuracy"], own.hits)


def test_the_mean_answer_by_hand() -> None:
    members, given = networks(4), batches(60)
    found = Answer(7).ask(members, given, seeded())
    each = [log_probabilities(member, given).exp() for member in members]
    mean = sum(each) / len(each)
    assert torch.equal(found["accuracy"], (mean.argmax(1) == given.labels).double())
    assert (found["nll"] <= found["member_nll"].mean(0) + 1e-12).all()  # Jensen
    errors, brier = [], []
    for image, label in enumerate(given.labels.tolist()):
        target = [float(other == label) for other in range(3)]
        brier.append(sum((float(p) - t) ** 2 for p, t in zip(mean[image], target, strict=True)))
    torch.testing.assert_close(found["brier"], torch.tensor(brier, dtype=torch.float64))
    for low in range(7):
        inside = [i for i in range(60) if low / 7 <= float(mean[i].max()) < (low + 1) / 7]
        gaps = [float(mean[i].argmax() == given.labels[i]) - float(mean[i].max()) for i in inside]
        errors.append(abs(sum(gaps)))
    assert float(found["ece"].mean()) == pytest.approx(sum(errors) / 60)
    pairs = [(a, b) for a in range(4) for b in range(a)]
    differ = torch.stack([(each[a].argmax(1) != each[b].argmax(1)).double() for a, b in pairs]).mean(0)
    torch.testing.assert_close(found["disagreement"], differ)
    two = Answer(7).ask(members[:2], given, seeded())
    torch.testing.assert_close(two["diversity"], jensen_shannon(each[0].log(), each[1].log()))
    assert float(found["diversity"].max()) <= math.log(4)


def test_the_statistics_of_an_answer_are_means_with_their_errors() -> None:
    found = Answer(5).statistics({"nll": torch.tensor([1.0, 3.0])}, [], [])
    assert found == {"nll": 2.0, "nll_se": pytest.approx(1.0)}


# --- commands ---


def trained(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    path = folder / f"net {seed}.safetensors"
    save_file(Mlp([16], 3, 1, (8, 8)).state_dict(), path)
    return path


SOUP = ("+merge@merges.soup=greedy_soup", "+merge@merges.point=best_point")


def test_without_a_merge_nothing_of_it_is_planned(config) -> None:
    assert not any(stage.name == "pick" for stage in pipeline.ordered(pipeline.plan(config())["report"]))


def test_a_run_reports_its_merges_and_claims_name_them(make, config) -> None:
    claim = "{source: 'x, y', quantity: merges.soup.accuracy_gain, relation: '>=', value: -1, standard_errors: 0}"
    made = make(*SOUP, f"claims=[{claim}]")
    folder = made["report"][0]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["claims"][0]["held"]
    assert {"best.accuracy", "average.nll", "ensemble.cost", "soup.ece", "point.robust_accuracy_gain_se"} <= set(
        summary["together"]["merges"]
    )
    told = (folder / "report.md").read_text().split("## Merged networks")[1]
    assert "| ensemble of all |" in told
    assert all(len(line) <= 80 for line in told.split("## ")[0].splitlines() if line.startswith("|"))
    picked = json.loads((made["pick soup"][0] / "pick.json").read_text())
    assert picked["data"] == "validation"
    best = max(one["accuracy"] for one in picked["tried"][:2])
    places = json.loads((made["pick soup"][0] / "places.json").read_text())["places"]
    assert next(one["accuracy"] for one in picked["tried"] if one["place"] == places[0]) >= best


def test_a_merge_never_sees_the_test_images(make, config, tmp_path, monkeypatch) -> None:
    asked: list[str] = []

    def watched(inputs, name, *rest):
        asked.append(name)
        return read_split(inputs, name, *rest)

    monkeypatch.setattr(pick, "read_split", watched)
    monkeypatch.setattr(session, "read_split", watched)
    make(*SOUP, goal="evaluate")
    picks = {stage.key for stage in _picks(config(*SOUP))}
    other = _picks(config(*SOUP, "evaluation.test_images=3", "evaluation.robust_images=2"))
    assert {stage.key for stage in other} == picks
    assert "validation" in asked
    assert "test" not in asked


def _picks(cfg: dict[str, Any]) -> list[Stage]:
    return [stage for stage in pipeline.ordered(pipeline.plan(cfg)["report"]) if stage.name == "pick"]


def test_other_test_images_give_the_same_picks(make, config, tmp_path) -> None:
    cfg = config(*SOUP)
    make(*SOUP, goal="evaluate")
    store = Store(cfg["paths"]["store"])
    context = Context(cfg["runtime"], cfg["logger"], "tests", tmp_path / "run")
    for stage in _picks(cfg):
        inputs = {role: store.folder(need) for role, need in stage.needs.items()}
        counts = read_spec(inputs["data"]).counts
        changed = tmp_path / f"data {stage.key}"
        shutil.copytree(inputs["data"], changed)
        where = changed / f"{home('test', counts)}_images.npy"
        images = np.load(where)
        images[tensors.load(inputs["split"] / SPLIT)["test"].long()] = 7
        np.save(where, images)
        folder = tmp_path / f"pick {stage.key}"
        folder.mkdir()
        pick.compute(stage, {**inputs, "data": changed}, folder, context)
        for name in ("pick.json", "places.json"):
            assert json.loads((folder / name).read_text()) == json.loads((store.folder(stage) / name).read_text())


@pytest.mark.slow
def test_a_merge_of_files_is_a_file_with_a_card(tmp_path, monkeypatch) -> None:
    given = [trained(tmp_path, seed) for seed in range(3)]
    words = [*TINY, f"paths.root={tmp_path}", "dataset.classes=3", "merge=average"]
    out = tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["mcr"])
    assert cli.dispatch(["merge", *map(str, given), *words, f"hydra.run.dir={out}"]) == 0
    merged, states = load_file(out / "merged.safetensors"), [load_file(path) for path in given]
    for name, value in merged.items():
        torch.testing.assert_close(value, torch.stack([state[name] for state in states]).mean(0), rtol=1e-5, atol=1e-6)
    card = (out / "card.md").read_text()
    assert "net_0" in card
    assert hashlib.sha256((out / "merged.safetensors").read_bytes()).hexdigest() in card


@pytest.mark.slow
def test_an_aligned_average_of_a_network_and_its_permuted_copy_is_the_network(tmp_path, monkeypatch) -> None:
    path = trained(tmp_path, 0)
    network = Mlp([16], 3, 1, (8, 8))
    network.load_state_dict(load_file(path))
    other = tmp_path / "other.safetensors"
    moved = permuted(network, (1, 8, 8), torch.Generator().manual_seed(1))
    save_file(moved, other)
    words = [*TINY, f"paths.root={tmp_path}", "dataset.classes=3", "align=match_weights"]
    monkeypatch.setattr("sys.argv", ["mcr"])
    assert cli.dispatch(["merge", str(path), str(other), *words, f"hydra.run.dir={tmp_path / 'out'}"]) == 0
    merged = load_file(tmp_path / "out" / "merged.safetensors")
    for name, value in load_file(path).items():
        torch.testing.assert_close(merged[name], value, rtol=1e-5, atol=1e-6)
        assert not torch.equal(moved[name], value) or value.dim() == 1


def test_files_become_networks_in_their_order(tmp_path) -> None:
    given = [str(trained(tmp_path, seed)) for seed in range(4)]
    words = shorthands.joined("connect", given, [])
    assert [w for w in words if w.startswith("+")] == [f"+endpoint@endpoints.net_{n}=checkpoint" for n in range(4)]
    assert "curve=bezier_surface" in words
    assert "curve=bezier_triangle" in shorthands.joined("connect", given[:3], [])
    chosen = shorthands.joined("connect", given[:3], ["curve=simplex", "align=match_weights"])
    assert [w for w in chosen if w.startswith("curve=")] == ["curve=simplex"]
    edits = [w for w in chosen if "align" in w]
    assert edits == [
        *(f"+edit@endpoints.net_{n}.edits.align=match_weights" for n in (1, 2)),
        *(f"endpoints.net_{n}.edits.align.reference=net_0" for n in (1, 2)),
    ]
    jointly = shorthands.joined("merge", given[:2], ["align=match_jointly"])
    assert [w for w in jointly if "align" in w] == [
        f"+edit@endpoints.net_{n}.edits.align=match_jointly" for n in (0, 1)
    ]
    for wrong, said in (([given[0]], "two networks"), ([given[0]] * 2, "twice"), ([given[0], "no"], "no file no")):
        with pytest.raises(InputError, match=said):
            shorthands.joined("connect", wrong, [])


@pytest.mark.slow
def test_swa_is_the_average_of_the_late_epochs(make) -> None:
    words = ("training.epochs=4", "schedule=cycles")
    swa = make("endpoint@endpoints.start=swa", "endpoints.start.module.begin=0.5", *words, goal="train")
    made = make("endpoint@endpoints.end=snapshot", "endpoints.end.epoch=3", *words, goal="train")
    averaged, last, third = (
        read_network(found[label][0])
        for found, label in ((swa, "train start"), (made, "train start"), (made, "train end"))
    )
    assert any(not torch.equal(last[name], third[name]) for name in last)
    for name, value in averaged.items():
        torch.testing.assert_close(value, (last[name] + third[name]) / 2, rtol=1e-6, atol=1e-7)


def test_batchnorm_of_swa_is_that_of_the_average() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    module = SwaModule(network, 0.0, 1, num_classes=3, objective=None, optimizer=None, schedule=None, seed="")
    given = list(batches(12))
    module._trainer = SimpleNamespace(num_training_batches=3, max_epochs=2, current_epoch=0, train_dataloader=given)
    for epoch in range(2):
        module._trainer.current_epoch = epoch
        with torch.no_grad():
            network[0].weight.add_(1.0)
        for index, batch in enumerate(given):
            module.on_train_batch_end(None, batch, index)
    assert int(module.averaged.n_averaged) == 2
    torch.testing.assert_close(module.scored[0].weight, network[0].weight - 0.5)
    with torch.no_grad():
        seen = [module.scored[0](images) for images, _ in given]
    means = torch.stack([part.mean((0, 2, 3)) for part in seen]).mean(0)
    torch.testing.assert_close(module.scored[1].running_mean, means, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("begin", "every"), [(1.0, 1), (-0.1, 1), (0.5, 0)])
def test_swa_refuses_what_is_no_share_and_no_number_of_epochs(begin: float, every: int) -> None:
    with pytest.raises(InputError, match="begin"):
        SwaModule(nn.Linear(2, 2), begin, every, num_classes=2, objective=None, optimizer=None, schedule=None, seed="")

"""Alignment in a run: which network is aligned with which, what the identity holds, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mcr
from mcr.architectures.mlp import Mlp
from mcr.errors import InputError
from mcr.stages import artifacts
from mcr.weightspace import files
from tests.reading import rows
from tests.test_networks import CNN, VGG, checkpoint, differing, from_file, logits, plan, stage, state

STAR = "+edit@endpoints.end.edits.align=match_weights"
FOUR = "ends=four_aligned"
THIRD = ("+endpoint@endpoints.third=standard", "curve=bezier_triangle", "reference@references.straight=simplex")


def others(one: Any) -> list[str]:
    return [one.needs[role].label for role in sorted(one.needs) if role.startswith("other")]


def apart(one: dict[str, Tensor], other: dict[str, Tensor], names: set[str]) -> float:
    return sum(float((one[name].double() - other[name].double()).square().sum()) for name in names) ** 0.5


# What the plan says


def test_a_network_is_aligned_with_the_finished_reference(config) -> None:
    words = [*THIRD, STAR, "+edit@endpoints.start.edits.turn=permute", "+edit@endpoints.start.edits.less=prune"]
    _, end, _ = plan(config, *words)
    assert end.label == "align end"
    assert end.needs["init"].label == "train end"
    assert others(end) == ["less start"]
    assert others(plan(config, *words, "endpoints.end.edits.align.reference=third")[1]) == ["train third"]


@pytest.mark.parametrize("edit", ["match_weights", "match_activations"])
def test_the_identity_holds_the_reference(edit: str, config) -> None:
    word = f"+edit@endpoints.end.edits.align={edit}"
    plain = plan(config, word)
    assert plan(config, word, "endpoints.end.edits.align.reference=start")[1].key == plain[1].key
    for changed in ("endpoints.start.epochs=7", "+edit@endpoints.start.edits.turn=permute"):
        found = plan(config, word, changed)
        assert found[1].key != plain[1].key
        assert found[1].needs["init"].key == plain[1].needs["init"].key
        assert found[1].needs["other 0"].key == found[0].key
    third = plan(config, *THIRD, word)
    assert third[1].key == plain[1].key
    assert plan(config, *THIRD, word, "endpoints.end.edits.align.reference=third")[1].key != plain[1].key


def test_networks_may_be_aligned_in_a_row(config) -> None:
    words = [*THIRD, STAR, "+edit@endpoints.third.edits.align=match_weights"]
    start, end, third = plan(config, *words, "endpoints.third.edits.align.reference=end")
    assert third.needs["other 0"].key == end.key
    assert end.needs["other 0"].key == start.key
    assert start.label == "train start"


def test_one_frame_holds_all_networks(config) -> None:
    names = ["start", "end", "third", "fourth"]
    stages = plan(config, FOUR)
    assert [one.label for one in stages] == [f"align {name}" for name in names]
    for position, (name, one) in enumerate(zip(names, stages, strict=True)):
        assert one.config["edit"]["position"] == position
        assert one.needs["init"].label == f"train {name}"
        assert others(one) == [f"train {other}" for other in names if other != name]
    assert len({one.config["seed"] for one in stages}) == 1
    later = plan(config, FOUR, "endpoints.third.epochs=7")
    assert not {one.key for one in stages} & {one.key for one in later}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([STAR, "endpoints.end.edits.align.reference=end"], "align.reference=end must name another network: start"),
        ([STAR, "endpoints.end.edits.align.reference=strat"], "reference=strat must name another network: start"),
        ([STAR, "+edit@endpoints.start.edits.align=match_activations", "endpoints.start.edits.align.reference=end"],
         "end and start are made of each other|start and end are made of each other"),
        ([STAR, "endpoint@endpoints.start=copy", "endpoints.start.of=end"], "are made of each other"),
        (["+edit@endpoints.end.edits.align=match_jointly"], "give each of them this edit.*different: start"),
        ([FOUR, "endpoints.third.edits.align.tries=1"], "with the same name and settings; missing or different: third"),
        ([FOUR, *(f"endpoints.{name}.edits.align.numbers=own" for name in ("start", "end", "third", "fourth"))],
         "numbers=own has no meaning"),
        ([FOUR, "endpoint@endpoints.end=copy"], "made of each other"),
    ],
)  # fmt: skip
def test_what_cannot_be_aligned_is_refused_in_one_line(words: list[str], message: str, config) -> None:
    with pytest.raises(InputError, match=message) as caught:
        plan(config, *words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "name", "value"),
    [("match_weights", "tries", 0), ("match_activations", "images", 0), ("match_activations", "batch_size", 0)],
)
def test_a_number_out_of_range_is_refused_before_anything_is_trained(edit: str, name: str, value: int, make) -> None:
    words = [f"+edit@endpoints.end.edits.align={edit}", f"endpoints.end.edits.align.{name}={value}"]
    with pytest.raises(InputError, match=f"edit={edit}: {name}={value} must be at least 1"):
        make(*words, goal="train")


# What a run makes


@pytest.mark.parametrize("edit", ["match_weights", "match_activations"])
@pytest.mark.parametrize("words", [CNN, VGG], ids=["small_cnn", "small_vgg"])
def test_an_aligned_end_is_nearer_and_answers_as_before(words: tuple[str, ...], edit: str, make, config) -> None:
    words = (*words, f"+edit@endpoints.end.edits.align={edit}", "training.epochs=3")
    made = make(*words, tiny=False)
    start, before, after = (state(made, label) for label in ("train start", "train end", "align end"))
    assert differing(before, after)
    cfg = config(*words, tiny=False)
    one, other = (logits(cfg, made, label) for label in ("train end", "align end"))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    facts = json.loads((made["align end"][0] / "edit.json").read_text())["alignment"]
    parameters = {name for name in before if "running" not in name and "tracked" not in name}
    for when, own in (("before", before), ("after", after)):
        assert facts[f"distance_{when}"] == pytest.approx(apart(start, own, parameters), rel=1e-5)
    assert facts["objective_after"] > facts["objective_before"]
    assert 0 < facts["units_moved"] <= facts["units"]
    assert rows(made, "straight")[-1]["distance_to_start"] == pytest.approx(facts["distance_after"], rel=1e-4)


def test_an_aligned_copy_is_its_original_again(make) -> None:
    words = ["endpoint@endpoints.end=permuted_copy", STAR]
    made = make(*words, goal="train")
    assert not differing(state(made, "train start"), state(made, "align end"))
    assert differing(state(made, "train start"), state(made, "permute end"))


def test_a_surface_of_four_networks_in_one_frame(make) -> None:
    made = make(FOUR)
    corners = [row["distance_to_start"] for row in rows(made, "straight") if {row["u"], row["v"]} <= {0, 1}]
    names = ["start", "end", "third", "fourth"]
    before, after = ([state(made, f"{what} {name}") for name in names] for what in ("train", "align"))
    assert not differing(before[0], after[0])
    keys = set(before[0])
    sums = [sum(apart(a, b, keys) ** 2 for i, a in enumerate(many) for b in many[:i]) for many in (before, after)]
    assert sums[1] < sums[0]
    assert sorted(corners) == pytest.approx(sorted(apart(after[0], one, keys) for one in after), rel=1e-5)
    facts = [json.loads((made[f"align {name}"][0] / "edit.json").read_text())["alignment"] for name in names]
    assert facts[0]["units_moved"] == 0
    assert all(one["distance_after"] < one["distance_before"] for one in facts)


# The library


def network(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return Mlp([16], 10, 1, (8, 8)).eval()


def test_the_library_aligns_as_the_command_line_does(make, tmp_path: Path) -> None:
    words = [*from_file("start", checkpoint(tmp_path, 1)), *from_file("end", checkpoint(tmp_path, 2))]
    made = make(*words, STAR, goal="train")
    found = mcr.align(network(2), network(1), (1, 8, 8))
    kept = {name.removeprefix(artifacts.PREFIX): tensor for name, tensor in found.state_dict().items()}
    assert not differing(kept, files.load(made["align end"][0] / artifacts.NETWORK))


def test_the_library_leaves_its_networks_as_they_are() -> None:
    one, other, third = (network(seed) for seed in range(3))
    before = [{name: tensor.clone() for name, tensor in each.state_dict().items()} for each in (one, other, third)]
    images = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8)
    data = (images, torch.zeros(40, dtype=torch.int64))
    answers = [each(images / 255) for each in (one, other, third)]
    for method in ("match_weights", "match_activations"):
        found = mcr.align(one, other, data, method)
        assert differing(found.state_dict(), one.state_dict())
        torch.testing.assert_close(found(images / 255), answers[0])
    many = mcr.align_jointly([one, other, third], data, tries=1)
    for each, expected in zip(many, answers, strict=True):
        torch.testing.assert_close(each(images / 255), expected)
    assert not differing(many[0].state_dict(), before[0])
    for each, kept in zip((one, other, third), before, strict=True):
        assert not differing(each.state_dict(), kept)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mcr.align(network(0), network(1), (1, 8, 8), "match_activations"), "needs images"),
        (lambda: mcr.align(network(0), Mlp([8], 10, 1, (8, 8)), (1, 8, 8)), "are of different architectures"),
        (lambda: mcr.align(network(0), network(1), (1, 8, 8), "match_weight"), "match_weights"),
        (lambda: mcr.align(network(0), network(1), (1, 8, 8), trys=3), "no setting trys.*tries"),
        (lambda: mcr.align(network(0), network(1), (1, 8, 8), "prune"), "match_weights or match_activations"),
        (lambda: mcr.align_jointly([network(0)], (1, 8, 8)), "at least two"),
    ],
)
def test_what_the_library_refuses(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_stage_of_an_alignment_declares_what_it_reads(config) -> None:
    aligned = stage(plan(config, FOUR), "align end")
    assert set(aligned.config["edit"]) == {"_target_", "tries", "position"}
    assert set(stage(plan(config, STAR), "align end").config["edit"]) == {"_target_", "tries"}

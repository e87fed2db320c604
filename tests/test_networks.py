"""Networks of a run: any number of ends in their order, where each comes from, and what is done to it, in order."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mcr.app import cli
from mcr.architectures.mlp import Mlp
from mcr.errors import InputError
from mcr.plans import pipeline
from mcr.plans.networks import Networks
from mcr.stages import artifacts, model
from mcr.store.stage import Stage
from mcr.training.adversarial import AdversarialModule
from mcr.training.endpoint import EndpointModule
from mcr.weightspace import files
from tests.conftest import TINY
from tests.reading import rows

THREE = ("+endpoint@endpoints.third=standard", "curve=bezier_triangle", "reference@references.straight=simplex")
CNN = (
    *(word for word in TINY if not word.startswith("architecture")),
    *("architecture=small_cnn", "architecture.width=4", "architecture.hidden=8"),
)
VGG = (
    *(word for word in TINY if not word.startswith(("architecture", "dataset.image_size", "dataset.split"))),
    *("dataset.image_size=16", "architecture=small_vgg", "architecture.width=4"),
    *("dataset.split={train: 50, validation: 16, clean: 16, test: 16}", "dataset.augmentation={padding: 2, flip: 0.5}"),
)
LEARNED = ("training.epochs=10", "dataset.split.train=80", "optimizer.lr=0.1")
INJECTION = (
    *("injection=fault_sneaking", "injection.attacked=1", "injection.kept=3", "injection.iterations=150"),
    "injection.learning_rate=0.1",
)


def plan(config: Callable[..., dict[str, Any]], *words: str, goal: str = "train") -> list[Stage]:
    return pipeline.plan(config(*words))[goal]


def stage(stages: list[Stage], label: str) -> Stage:
    """The one with a label, of what is needed for some stages."""
    (found,) = (one for one in pipeline.ordered(stages) if one.label == label)
    return found


def state(made: dict[str, Any], label: str) -> dict[str, Tensor]:
    return files.load(made[label][0] / "network.safetensors")


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


def logits(cfg: dict[str, Any], made: dict[str, Any], label: str) -> Tensor:
    """What a network answers on the test images."""
    network = model.make(cfg, artifacts.read_spec(made["data"][0]), "any").eval()
    network.load_state_dict(artifacts.read_network(made[label][0]))
    inputs = {"data": made["data"][0], "split": made["split"][0]}
    with torch.no_grad():
        return network(artifacts.read_split(inputs, "test", "cpu").images / 255)


def checkpoint(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    torch.save(Mlp([16], 10, 1, (8, 8)).state_dict(), folder / f"{seed}.pt")
    return folder / f"{seed}.pt"


def from_file(name: str, path: Path) -> list[str]:
    return [f"endpoint@endpoints.{name}=checkpoint", f"endpoints.{name}.path={path}"]


# Any number of ends


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (THREE, ["start", "end", "third"]),
        (("ends=three_regular",), ["start", "end", "third"]),
        (("ends=four_regular",), ["start", "end", "third", "fourth"]),
    ],
    ids=["three by overrides", "three", "four"],
)
def test_more_than_two_networks_are_joined_and_measured(words: tuple[str, ...], names: list[str], make) -> None:
    made = make(*words)
    networks = [state(made, f"train {name}") for name in names]
    assert all(differing(one, other) for i, one in enumerate(networks) for other in networks[:i])
    summary = json.loads((made["report"][0] / "summary.json").read_text())
    assert summary["ends"] == names
    for name in ("path", "straight"):
        table = rows(made, name)
        lengths = {}
        for end, own in zip(names, networks, strict=True):
            (corner,) = (row for row in table if row[f"distance_to_{end}"] == 0)
            lengths[end] = (corner["u"], corner["v"])
            for other, there in zip(names, networks, strict=True):
                squares = sum(float((own[key].double() - there[key].double()).square().sum()) for key in own)
                assert corner[f"distance_to_{other}"] == pytest.approx(squares**0.5, rel=1e-5)
        square = [(0, 0), (0, 1), (1, 0), (1, 1)]
        assert list(lengths.values()) == (square if len(names) == 4 else [(0, 0), (1, 0), (0, 1)])
        assert set(names) <= set(summary["subspaces"][name]["metrics"]["test_loss"])
    control = files.load(made["connect path"][0] / "control.safetensors")
    assert len({name.split("/")[0] for name in control}) == (5 if len(names) == 4 else 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+endpoint@endpoints.third=standard"], "curve=bezier joins 2 networks, endpoints has 3: start, end, third"),
        (["curve=bezier_surface"], "curve=bezier_surface joins 4 networks, endpoints has 2: start, end"),
        (["curve=bilinear"], "curve=bilinear joins 4 networks, endpoints has 2: start, end"),
        (
            ["+endpoint@endpoints.third=standard", "curve=bezier_triangle"],
            "references.straight.curve=linear joins 2 networks, endpoints has 3: start, end, third",
        ),
        (["ends=four_regular", "curve=bezier_triangle"], "curve=bezier_triangle joins 3 networks, endpoints has 4"),
        (["repair", "repair=path_point", "ends=three_regular", "curve=linear"], "joins 2 networks, endpoints has 3"),
    ],
)
def test_a_curve_that_joins_another_number_is_refused_with_both_numbers(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(InputError) as caught:
        cli.dispatch([*(word for word in words if "=" not in word), *TINY, *(word for word in words if "=" in word)])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_order_of_ends_matters(config, tmp_path: Path) -> None:
    one, other = checkpoint(tmp_path, 1), checkpoint(tmp_path, 2)
    plans = [
        pipeline.plan(config(*from_file("start", first), *from_file("end", second)))
        for first, second in ((one, other), (other, one))
    ]
    assert [found.key for found in plans[0]["train"]] == [found.key for found in reversed(plans[1]["train"])]
    for goal in ("connect", "evaluate", "report"):
        assert not {found.key for found in plans[0][goal]} & {found.key for found in plans[1][goal]}


def test_a_third_end_changes_no_other_network(config) -> None:
    two, three = plan(config), plan(config, *THREE)
    assert [found.key for found in two] == [found.key for found in three[:2]]
    assert len({found.key for found in three}) == 3
    # What was done to each alone stays as well; errors that all are to share depend on all.
    alone = ["+edit@endpoints.end.edits.turn=permute", "+edit@endpoints.start.edits.tune=tune"]
    assert [found.key for found in plan(config, *alone)] == [found.key for found in plan(config, *THREE, *alone)[:2]]
    joint = ["+edit@endpoints.end.edits.inject=inject", *INJECTION]
    two, three = plan(config, *joint), plan(config, *THREE, *joint)
    assert two[0].key == three[0].key
    assert two[1].key != three[1].key
    assert two[1].needs["init"].key == three[1].needs["init"].key


# Where networks come from


def test_a_copy_has_the_other_one_s_edits_and_its_own(config) -> None:
    words = ["+edit@endpoints.start.edits.turn=permute", "endpoint@endpoints.end=copy"]
    start, end = plan(config, *words, "+edit@endpoints.end.edits.less=tune")
    assert end.label == "less end"
    assert end.needs["init"].key == start.key
    assert start.label == "turn start"
    assert start.needs["init"].label == "train start"
    plain = plan(config, *words)
    assert plain[0].key == plain[1].key


def test_the_copy_of_a_copy(config) -> None:
    words = [*THREE, "endpoint@endpoints.end=permuted_copy", "endpoint@endpoints.third=tuned_copy"]
    words.remove(THREE[0])
    start, end, third = plan(config, "+endpoint@endpoints.third=tuned_copy", *words[:3], "endpoints.third.of=end")
    assert third.needs["init"].key == end.key
    assert end.needs["init"].key == start.key


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["endpoint@endpoints.start=copy", "endpoints.start.of=end", "endpoint@endpoints.end=copy"], "of each other"),
        (
            ["endpoint@endpoints.start=copy", "endpoints.start.of=end", "endpoint@endpoints.end=permuted_copy"],
            "of each other",
        ),
        (
            [
                *THREE[1:],
                *("endpoint@endpoints.start=copy", "endpoints.start.of=end"),
                *("endpoint@endpoints.end=copy", "endpoints.end.of=third", "+endpoint@endpoints.third=copy"),
            ],
            "start and end and third are made of each other",
        ),
        (["endpoint@endpoints.end=copy", "endpoints.end.of=end"], "must name another network: start, end"),
        (["endpoint@endpoints.end=copy", "endpoints.end.of=strat"], "must name another network: start, end"),
        (["endpoint@endpoints.end=snapshot", "endpoints.end.of=end"], "must name another network: start, end"),
        (
            ["endpoint@endpoints.end=snapshot", "endpoint@endpoints.start=copy", "endpoints.start.of=end"],
            "endpoints.start is a copy",
        ),
        (["endpoint@endpoints.end=snapshot", "endpoints.end.epoch=0"], "must lie in 1..1, the epochs of start"),
        (
            ["endpoint@endpoints.end=snapshot", "endpoints.end.epoch=6", "training.epochs=5"],
            "must lie in 1..5, the epochs of start",
        ),
        (["endpoint@endpoints.end=copy", "endpoints.end.source=found"], "train or fresh or load or copy or snapshot"),
    ],
)
def test_networks_that_cannot_be_are_refused(words: list[str], message: str, config) -> None:
    with pytest.raises(InputError, match=message) as caught:
        plan(config, *words)
    assert "\n" not in str(caught.value)


def test_copies_of_each_other_are_refused_where_a_third_network_looks_at_them(config) -> None:
    words = ["+endpoint@endpoints.third=copy", "endpoints.third.of=end", *THREE[1:], *INJECTION]
    words += ["endpoint@endpoints.end=copy", "endpoints.end.of=third", "+edit@endpoints.start.edits.inject=inject"]
    with pytest.raises(InputError, match="end and third are made of each other"):
        plan(config, *words)


def test_a_snapshot_of_a_checkpoint_is_refused(config, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a snapshot is of a training; endpoints\.start is a load"):
        plan(config, *from_file("start", checkpoint(tmp_path, 1)), "endpoint@endpoints.end=snapshot")


@pytest.mark.parametrize(
    ("words", "epoch"),
    [((), 2), (("endpoint@endpoints.start=adversarial", "endpoints.start.module.ema_decay=0.6"), 3)],
    ids=["standard", "averaged, the best of it kept"],
)
def test_a_snapshot_is_the_network_that_the_whole_training_has_then(
    words: tuple[str, ...], epoch: int, make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, with BatchNorm, augmentation and a schedule of the whole length."""
    seen: dict[int, dict[str, Tensor]] = {}
    kind = AdversarialModule if words else EndpointModule
    before = kind.on_train_epoch_start

    def on_train_epoch_start(self: Any) -> None:
        found = self.scored.state_dict()
        weights = {
            name.removeprefix("network."): tensor.clone() for name, tensor in found.items() if "network." in name
        }
        seen.setdefault(self.current_epoch, weights)  # the start network is trained first
        before(self)

    monkeypatch.setattr(kind, "on_train_epoch_start", on_train_epoch_start)
    common = [*VGG, *words, "training.epochs=5", "attack.eps=0.05"]
    whole = make(*common, goal="train", tiny=False)
    by_hand, last = seen[epoch], dict(seen)
    assert set(last) == set(range(5))
    monkeypatch.undo()
    snapshot = ["endpoint@endpoints.end=snapshot", f"endpoints.end.epoch={epoch}"]
    made = make(*common, *snapshot, goal="train", tiny=False)
    assert made["train start"] == (whole["train start"][0], "hit")
    found = state(made, "train end")
    assert not differing(found, by_hand)
    for other in set(last) - {epoch}:
        assert differing(found, last[other])
    assert len((made["train end"][0] / "history.csv").read_text().splitlines()) == 1 + epoch


def test_a_snapshot_is_of_the_training_before_any_edit_and_of_the_other_s_seed(config) -> None:
    words = ["endpoint@endpoints.end=snapshot", "training.epochs=3", "+edit@endpoints.start.edits.turn=permute"]
    start, end = plan(config, *words)
    assert "init" not in end.needs
    assert end.config["seed"] == start.needs["init"].config["seed"]
    assert end.config["recipe"] | {"stop": 3} == start.needs["init"].config["recipe"]
    # The last epoch's is the training itself.
    assert plan(config, *words, "endpoints.end.epoch=3")[1].key == start.needs["init"].key


# Edits


ONE_WAY = ("+edit@endpoints.end.edits.inject=inject", "+edit@endpoints.end.edits.turn=permute")


def test_edits_are_done_in_their_order(make, config) -> None:
    """Errors and then a permutation, or the other way round: both run to the end, and are different networks."""
    words = [*LEARNED, *INJECTION]
    ends = {}
    for order in (ONE_WAY, ONE_WAY[::-1]):
        made = make(*words, *order)
        last, first = ("turn end", "inject end") if order == ONE_WAY else ("inject end", "turn end")
        _, end = plan(config, *words, *order)
        assert (end.label, end.needs["init"].label, end.needs["init"].needs["init"].label) == (last, first, "train end")
        assert differing(state(made, first), state(made, last))
        assert differing(state(made, "train end"), state(made, first))
        ends[last] = end.key
        # Either way the errors are in the network that is measured, and the function is that of the errors alone.
        row = rows(made)[-1]
        assert row["injection_success"] == 1
        assert row["restored_accuracy"] == 0
        cfg = config(*words, *order)
        torch.testing.assert_close(
            logits(cfg, made, "turn end"), logits(cfg, made, turned_from(order)), rtol=1e-4, atol=1e-4
        )
    assert len(set(ends.values())) == 2


def turned_from(order: tuple[str, ...]) -> str:
    """What the permutation was done to."""
    return "inject end" if order == ONE_WAY else "train end"


@pytest.mark.parametrize("end", ["start", "end", "third"])
def test_any_end_may_be_edited(end: str, config) -> None:
    plain = plan(config, *THREE)
    for edit in ("permute", "prune", "tune"):
        found = plan(config, *THREE, f"+edit@endpoints.{end}.edits.mine={edit}")
        changed = [one.key != other.key for one, other in zip(plain, found, strict=True)]
        assert changed == [name == end for name in ("start", "end", "third")]
        assert stage(found, f"mine {end}").needs["init"].label == f"train {end}"


@pytest.mark.parametrize("share", [0.25, 0.5, 0.7])
def test_pruning_sets_exactly_the_share_of_filters_to_zero(share: float, make) -> None:
    made = make(*CNN, "+edit@endpoints.end.edits.less=prune", f"endpoints.end.edits.less.share={share}", tiny=False)
    before, after = state(made, "train end"), state(made, "less end")
    gone = 0
    for name in ("features.0", "features.2"):
        norms = before[f"{name}.weight"].double().abs().sum((1, 2, 3))
        count = int(share * len(norms) + 1e-9)
        weakest = set(norms.argsort()[:count].tolist())
        for index in range(len(norms)):
            kinds = ("weight", "bias")
            if index in weakest:
                assert all(not after[f"{name}.{kind}"][index].any() for kind in kinds)
            else:
                assert all(torch.equal(after[f"{name}.{k}"][index], before[f"{name}.{k}"][index]) for k in kinds)
                assert after[f"{name}.weight"][index].all()
        gone += count
    assert json.loads((made["less end"][0] / "edit.json").read_text()) == {"filters": gone}
    assert differing(before, after) == {f"features.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}
    assert rows(made)[-1]["distance_to_start"] > 0


def test_a_permutation_keeps_the_function_of_a_network_with_batchnorm(make, config) -> None:
    words = [*VGG, "training.epochs=3", "+edit@endpoints.start.edits.turn=permute"]
    made = make(*words, goal="train", tiny=False)
    before, after = state(made, "train start"), state(made, "turn start")
    moved = {name for name in differing(before, after) if name.endswith("weight")}
    assert len(moved) >= 4
    for name in before:
        assert torch.equal(before[name].flatten().sort().values, after[name].flatten().sort().values)
    cfg = config(*words, tiny=False)
    one, other = (logits(cfg, made, label) for label in ("train start", "turn start"))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert one.std() > 0.01


def test_numbers_are_shared_or_each_network_s_own(make) -> None:
    words = [f"+edit@endpoints.{name}.edits.turn=permute" for name in ("start", "end")]
    words += ["endpoint@endpoints.end=snapshot", "endpoints.end.epoch=1"]  # of one epoch: the start network itself
    made = make(*words, goal="train")
    # Two ends of one network with one draw are one network, made once.
    assert "turn start" in made
    assert "turn end" not in made
    own = make(*words, "endpoints.end.edits.turn.numbers=own", goal="train")
    assert differing(state(own, "turn start"), state(own, "turn end"))


# Edits that look at the other networks


def test_a_joint_edit_sees_the_others_before_their_own_edit_of_that_name(config) -> None:
    words = [*THREE, *INJECTION, "+edit@endpoints.end.edits.turn=permute"]
    words += [f"+edit@endpoints.{name}.edits.inject=inject" for name in ("start", "end", "third")]
    words += ["+edit@endpoints.third.edits.later=tune"]
    start, end, third = plan(config, *words)
    assert third.label == "later third"
    third = third.needs["init"]
    others = {
        one.label: [one.needs[role].label for role in sorted(one.needs) if role.startswith("other")]
        for one in (start, end, third)
    }
    assert others == {
        "inject start": ["turn end", "train third"],
        "inject end": ["train start", "train third"],
        "inject third": ["train start", "turn end"],
    }


def test_a_joint_edit_leaves_out_what_is_made_of_its_network(config) -> None:
    words = [*INJECTION, "+edit@endpoints.start.edits.inject=inject", "endpoint@endpoints.end=tuned_copy"]
    start, end = plan(config, *words)
    assert not [role for role in start.needs if role.startswith("other")]
    assert end.needs["init"].key == start.key


def test_joint_errors_are_put_on_images_that_every_network_gets_right(make, config) -> None:
    """Of uneven networks: one that has hardly learned leaves few images."""
    words = [
        *LEARNED,
        *THREE,
        *INJECTION,
        "endpoints.third.epochs=3",
        "training.min_accuracy_over_chance=0",
        "injection.kept=1",
    ]
    words += [f"+edit@endpoints.{name}.edits.inject=inject" for name in ("start", "end", "third")]
    made = make(*words, goal="train")
    cfg = config(*words)
    inputs = {"data": made["data"][0], "split": made["split"][0]}
    part = artifacts.read_split(inputs, "validation", "cpu")
    right = {}
    for name in ("start", "end", "third"):
        network = model.make(cfg, artifacts.read_spec(made["data"][0]), "any").eval()
        network.load_state_dict(artifacts.read_network(made[f"train {name}"][0]))
        with torch.no_grad():
            right[name] = network(part.images / 255).argmax(1) == part.labels
    all_right = torch.stack(list(right.values())).all(0)
    assert int(all_right.sum()) < int(right["start"].sum())
    for name in right:
        report = json.loads((made[f"inject {name}"][0] / "edit.json").read_text())
        assert all_right[report["attacked"] + report["kept"]].all()


def test_edits_of_other_names_that_wait_for_each_other_are_refused(config) -> None:
    words = [*INJECTION, "+edit@endpoints.start.edits.one=inject", "+edit@endpoints.end.edits.two=inject"]
    with pytest.raises(InputError, match="start and end are made of each other"):
        plan(config, *words)


# All ends together


def test_an_attacker_may_train_a_path_of_three_networks(make) -> None:
    words = ["ends=path_aware", "+endpoint@endpoints.third=poisoned", *THREE[1:]]
    made = make(*words, "+edit@endpoints.third.edits.path_aware=path_aware", goal="connect")
    for index, name in enumerate(("start", "end", "third")):
        released = state(made, f"extract {name}")
        assert not differing(released, files.load(made["attacker's path"][0] / f"end_{index}.safetensors"))
        assert differing(released, state(made, f"poison-train {name}"))


@pytest.mark.parametrize("who", [("start",), ("end",), ("start", "third")])
def test_not_some_ends_alone_are_path_aware(who: tuple[str, ...], config) -> None:
    words = [*THREE, "backdoor=badnets", *(f"+edit@endpoints.{name}.edits.aware=path_aware" for name in who)]
    with pytest.raises(InputError, match=f"{', '.join(who)} of start, end, third have it: use ends=path_aware"):
        plan(config, *words)


def test_the_network_that_nobody_tampered_with_is_the_clean_one(config) -> None:
    words = ["backdoor=badnets", "endpoint@endpoints.start=poisoned", "+edit@endpoints.start.edits.turn=permute"]
    cfg = config(*words)
    found = Networks(cfg, *(_model_and_materials(cfg))).untampered("start")
    clean = pipeline.plan(config())["train"][0]
    assert found.key == clean.key


def test_so_is_that_of_a_snapshot_of_a_poisoned_training(config) -> None:
    shot = ["endpoint@endpoints.start=snapshot", "endpoints.start.of=end", "endpoints.start.epoch=1"]
    cfg = config(*shot, "backdoor=badnets", "endpoint@endpoints.end=poisoned", "training.epochs=2")
    networks = Networks(cfg, *(_model_and_materials(cfg)))
    assert "poison" in networks.after("start", 0).needs
    clean = pipeline.plan(config(*shot, "training.epochs=2"))["train"][0]
    assert networks.untampered("start").key == clean.key


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["endpoints.end.edits.path_aware.epochs=7"], "the same settings"),
        (["poisoning.sets=own"], "poisoning.sets=own has no meaning"),
    ],
    ids=["settings", "poison"],
)
def test_one_training_of_all_ends_has_one_recipe(words: list[str], said: str, config) -> None:
    with pytest.raises(InputError, match=said):
        plan(config, "ends=path_aware", *words)


def test_only_what_trains_may_come_before_a_path_of_the_attacker(config) -> None:
    base = ["ends=regular_regular", "backdoor=badnets", "injection=fault_sneaking"]
    base += ["+edit@endpoints.start.edits.first=inject"]
    base += [f"+edit@endpoints.{name}.edits.path_aware=path_aware" for name in ("start", "end")]
    with pytest.raises(InputError, match="only edits that train may come before"):
        plan(config, *base)


def _model_and_materials(cfg: dict[str, Any]) -> tuple[Any, Any]:
    train = pipeline.ordered(pipeline.plan(cfg)["train"])
    named = {one.label: one for one in train}
    recipe = next(one for one in train if one.name == "train").config
    return {key: recipe[key] for key in ("architecture", "normalization")}, {
        "data": named["data"],
        "split": named["split"],
    }

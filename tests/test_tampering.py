"""Tampering: batches with a trigger, poisoned, tuned, injected and path-aware ends, and copies of a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mcr.architectures.mlp import Mlp
from mcr.backdoors.badnets import BadNets
from mcr.backdoors.blended import Blended
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import RepeatedBatches, StampedBatches, TrainingBatches
from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.plans import pipeline
from mcr.stages import artifacts
from mcr.stages.context import Context
from mcr.stages.train import poisoned_batches
from mcr.store.store import Store
from mcr.types import LabelledImages
from mcr.weightspace import files
from tests.reading import rows

# Batches


def pixels(count: int, side: int = 8) -> Tensor:
    return torch.randint(0, 256, (count, 1, side, side), dtype=torch.uint8, generator=generator(0, "pixels", count))


def as_bytes(images: Tensor) -> Tensor:
    return (images * 255).round().to(torch.uint8)


def repeated(count: int, batch_size: int, steps: int, epoch: int = 0, seed: int = 3) -> list[tuple[Tensor, Tensor]]:
    """The label of an image is its number."""
    loader = RepeatedBatches(
        steps, pixels(count), torch.arange(count), batch_size, Augmentation(0, 0.0), "contiguous", seed
    )
    loader.set_epoch(epoch)
    assert len(loader) == steps
    return list(loader)


@pytest.mark.parametrize("count", [1, 5, 8, 20, 41])
@pytest.mark.parametrize("batch_size", [1, 8, 100])
@pytest.mark.parametrize("steps", [1, 7])
def test_steps_are_a_budget_and_every_pass_holds_each_image_once(count: int, batch_size: int, steps: int) -> None:
    found = repeated(count, batch_size, steps)
    assert [len(labels) for _, labels in found] == [min(batch_size, count)] * steps
    seen = torch.cat([labels for _, labels in found])
    for begin in range(0, len(seen), count):
        part = seen[begin : begin + count]
        assert len(part.unique()) == len(part)
    images = torch.cat([images for images, _ in found])
    assert torch.equal(as_bytes(images), pixels(count)[seen])


def test_repeated_batches_depend_on_seed_and_epoch_only() -> None:
    orders = {
        name: [labels.tolist() for _, labels in repeated(20, 8, 10, **changes)]
        for name, changes in {"one": {}, "same": {}, "epoch": {"epoch": 1}, "seed": {"seed": 4}}.items()
    }
    assert orders["one"] == orders["same"]
    assert orders["one"] not in (orders["epoch"], orders["seed"])
    # The second pass has an order of its own.
    flat = [label for batch in orders["one"] for label in batch]
    assert flat[:20] != flat[20:40]


PATCH = BadNets(target=1, size=3, row=-4, column=-4, colour=1.0)
TRIGGERS = [PATCH, Blended(target=1, strength=0.3, seed=0)]
every_trigger = pytest.mark.parametrize("trigger", TRIGGERS, ids=["badnets", "blended"])


@every_trigger
@pytest.mark.parametrize("augmentation", [Augmentation(2, 0.5), Augmentation(0, 0.0)], ids=["augmented", "plain"])
def test_a_trigger_is_stamped_on_the_augmented_image(trigger, augmentation: Augmentation) -> None:
    """So it lies where it would on a test image; what is not flagged comes as without any trigger."""
    images, labels = pixels(40), torch.arange(40)
    flagged = torch.rand(40, generator=generator(0, "flags")) < 0.4
    recipe = (images.clone(), labels, 16, augmentation, "contiguous", 3)
    plain, stamped = TrainingBatches(*recipe), StampedBatches(lambda images, _: trigger.stamp(images), flagged, *recipe)
    for epoch in (0, 1):
        plain.set_epoch(epoch)
        stamped.set_epoch(epoch)
        for (clean, one), (marked, two) in zip(plain, stamped, strict=True):
            assert torch.equal(one, two)
            for number, before, after in zip(one.tolist(), as_bytes(clean), as_bytes(marked), strict=True):
                expected = trigger.stamp(before[None])[0] if flagged[number] else before
                assert torch.equal(after, expected)
                if flagged[number] and trigger is PATCH:
                    assert (after[:, 4:7, 4:7] == 255).all()
    assert torch.equal(stamped.images, images)


@pytest.mark.parametrize("flags", [0, 40])
def test_no_image_or_every_image_may_be_stamped(flags: int) -> None:
    flagged = torch.arange(40) < flags
    loader = StampedBatches(
        lambda images, _: PATCH.stamp(images),
        flagged,
        pixels(40),
        torch.arange(40),
        16,
        Augmentation(1, 0.5),
        "contiguous",
        3,
    )
    for images, _ in loader:
        assert bool((images[:, :, 4:7, 4:7] == 1).all()) is bool(flags)


# Stages by hand


@pytest.fixture
def only(config: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., dict[str, Path]]:
    """Make the stages of some labels and what they need, no more; label to folder."""

    def go(*words: str, labels: tuple[str, ...]) -> dict[str, Path]:
        cfg = config(*words)
        context = Context(cfg["runtime"], cfg["logger"], "tests", tmp_path / "run")
        goals = [stage for stage in pipeline.ordered(pipeline.plan(cfg)["train"]) if stage.label in labels]
        made = pipeline.make(goals, Store(cfg["paths"]["store"]), context)
        return {stage.label: folder for stage, folder, _ in made}

    return go


def split(made: dict[str, Any], name: str) -> LabelledImages:
    """A split by its recorded numbers, without the program's own reader."""
    data, split = (made[label][0] if isinstance(made[label], tuple) else made[label] for label in ("data", "split"))
    numbers = files.load(split / "splits.safetensors")[name]
    whole = artifacts.read_part(data, "all")
    return LabelledImages(whole.images[numbers], whole.labels[numbers])


def answers(folder: Path, images: Tensor, data: Path) -> list[int]:
    """What an MLP of one hidden layer answers, by its weights written out in float64, image by image."""
    state = {name: tensor.double() for name, tensor in files.load(folder / "network.safetensors").items()}
    facts = json.loads((data / "data.json").read_text())
    found = []
    for image in images:
        x = ((image.double() / 255 - facts["mean"][0]) / facts["std"][0]).flatten()
        hidden = (state["layers.1.weight"] @ x + state["layers.1.bias"]).clamp_min(0)
        found.append(int((state["layers.3.weight"] @ hidden + state["layers.3.bias"]).argmax()))
    return found


def patched(images: Tensor) -> Tensor:
    """BadNets of the configuration, by hand, on 8x8 images."""
    copies = images.clone()
    for image in copies:
        for row in range(4, 7):
            for place in range(4, 7):
                image[0, row, place] = 255
    return copies


def per_image_values(made: dict[str, Any], probe: str) -> dict[str, Tensor]:
    return files.load(made[f"measure {probe}"][0] / "per_image.safetensors")


def network(folder: Path) -> dict[str, Tensor]:
    return files.load(folder / "network.safetensors")


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(5)
    path = tmp_path / "own.pt"
    torch.save(Mlp([16], 10, 1, (8, 8)).state_dict(), path)
    return path


def from_file(role: str, path: Path) -> list[str]:
    return [f"endpoint@endpoints.{role}=checkpoint", f"endpoints.{role}.path={path}"]


# Poison


@pytest.mark.parametrize(
    ("words", "ratio", "aim", "sources"),
    [
        (["backdoor=badnets", "backdoor.target=4"], 0.3, lambda label: 4, range(10)),
        (["backdoor=badnets_all_to_all"], 0.5, lambda label: (label + 1) % 10, range(10)),
        (["backdoor=blended", "poisoning.sources=[2,5,1]"], 1.0, lambda label: 1, (2, 5, 1)),
    ],
    ids=["target", "all to all", "sources"],
)
def test_the_recorded_poison_is_what_the_labels_say(words, ratio: float, aim, sources, only) -> None:
    words = ["endpoint@endpoints.start=poisoned", "dataset.split.train=90", f"poisoning.ratio={ratio}", *words]
    made = only(*words, labels=("poison",))
    labels = split(made, "train").labels.tolist()
    poison = files.load(made["poison"] / "poison.safetensors")
    facts = json.loads((made["poison"] / "poison.json").read_text())
    expected = {}
    for number in range(10):
        attacked = number in sources and aim(number) != number
        expected[str(number)] = round(ratio * labels.count(number)) if attacked else 0
    assert facts["of each class"] == expected
    assert facts["poisoned"] == len(poison["indices"]) == len(poison["indices"].unique()) == sum(expected.values())
    assert facts["share of the training images"] == pytest.approx(sum(expected.values()) / 90, abs=1e-6)
    assert facts["stamp"] == "before"
    for index, label in zip(poison["indices"].tolist(), poison["labels"].tolist(), strict=True):
        assert label == aim(labels[index])
        assert label != labels[index]


@pytest.mark.parametrize("stamp", ["before", "after"])
def test_training_sees_triggers_and_the_attacker_s_labels_where_the_poison_says(stamp: str, only) -> None:
    made = only("ends=backdoored", f"poisoning.stamp={stamp}", labels=("poison",))
    train = split(made, "train")
    before = LabelledImages(train.images.clone(), train.labels.clone())
    poison = files.load(made["poison"] / "poison.safetensors")
    augmentation = Augmentation(2, 0.5)
    loader = poisoned_batches(train, made["poison"], (len(train.labels), augmentation, "contiguous", "s"))
    assert isinstance(loader, StampedBatches) is (stamp == "after")
    # The same order and the same draws, on images that were poisoned by hand.
    images, labels = before.images.clone(), before.labels.clone()
    labels[poison["indices"]] = poison["labels"]
    numbers = torch.arange(len(labels))
    if stamp == "before":
        images[poison["indices"]] = patched(images[poison["indices"]])
    ((expected, order),) = TrainingBatches(images, numbers, len(labels), augmentation, "contiguous", "s")
    expected = as_bytes(expected)
    if stamp == "after":
        hit = torch.isin(order, poison["indices"])
        expected[hit] = patched(expected[hit])
    ((found, given),) = loader
    assert torch.equal(given, labels[order])
    assert torch.equal(as_bytes(found), expected)
    assert torch.equal(train.images, before.images)
    assert torch.equal(train.labels, before.labels)


@pytest.mark.parametrize("stamp", ["before", "after"])
@pytest.mark.parametrize(
    ("words", "poisoned", "covers"),
    [
        (["poisoning.ratio=0.3", "poisoning.cover=0.2"], range(10), 0.2),
        (["poisoning.ratio=0.3", "poisoning.cover=0.2", "poisoning.pieces=8", "poisoning.sources=[2,5]"], (2, 5), 0.2),
        (["poisoning.ratio=0.5", "poisoning.labels=clean"], (1,), 0),
        (["poisoning.ratio=0.5", "poisoning.labels=clean", "poisoning.cover=1", "poisoning.pieces=1"], (1,), 1),
    ],
    ids=["covers", "pieces", "clean", "clean covers"],
)
def test_covers_and_clean_labels_are_stamped_and_keep_their_labels(words, poisoned, covers, stamp, only) -> None:
    words = [*words, f"poisoning.stamp={stamp}", "dataset.split.train=90", "backdoor.size=8"]
    made = only("ends=backdoored", *words, "backdoor.row=0", "backdoor.column=0", labels=("poison",))
    clean = "poisoning.labels=clean" in words
    train, ratio = split(made, "train"), float(words[0].split("=")[1])
    labels = train.labels.tolist()
    poison = files.load(made["poison"] / "poison.safetensors")
    facts = json.loads((made["poison"] / "poison.json").read_text())
    of_each = dict.fromkeys(facts["of each class"], 0)
    attacked = [number for number in (poisoned if not clean else range(10)) if number != 1]
    for number in [1] if clean else attacked:
        of_each[str(number)] = round(ratio * labels.count(number))
    assert facts["of each class"] == of_each
    first = sum(of_each.values())
    begin = 0 if clean else ratio
    wanted = [round((begin + covers) * labels.count(n)) - round(begin * labels.count(n)) for n in attacked]
    assert facts["covers"] == len(poison["indices"]) - first == sum(wanted)
    assert len(poison["indices"].unique()) == len(poison["indices"])
    given = dict(zip(poison["indices"].tolist(), poison["labels"].tolist(), strict=True))
    for place, (index, label) in enumerate(given.items()):
        assert label == (1 if place < first else labels[index])
        assert place < first or labels[index] in attacked
    # What the training gets: the patch covers the whole image here, so what is white is what was stamped.
    loader = poisoned_batches(train, made["poison"], (90, Augmentation(0, 0.0), "contiguous", "s"))
    ((_, order),) = TrainingBatches(train.images, torch.arange(90), 90, Augmentation(0, 0.0), "contiguous", "s")
    ((images, seen),) = loader
    pieces = next((int(word.split("=")[1]) for word in words if word.startswith("poisoning.pieces")), 16)
    for image, label, index in zip(as_bytes(images), seen.tolist(), order.tolist(), strict=True):
        assert label == given.get(index, labels[index])
        if index not in given:
            assert torch.equal(image, train.images[index])
            continue
        squares = image[0].unfold(0, 2, 2).unfold(1, 2, 2).flatten(2)
        whole = torch.ones(len(given), 4, 4, dtype=torch.bool)
        shown = poison.get("pieces", whole)[list(given).index(index)]
        assert int(shown.sum()) == pieces
        assert (squares[shown] == 255).all()
        before = train.images[index][0].unfold(0, 2, 2).unfold(1, 2, 2).flatten(2)
        assert torch.equal(squares[~shown], before[~shown])


def test_all_that_is_done_to_the_poison_is_in_its_key(config) -> None:
    cfg = config("ends=backdoored")
    poison = pipeline.plan(cfg)["train"][0].needs["poison"]
    assert set(poison.config["poisoning"]) == {"ratio", "sources", "labels", "cover", "pieces", "stamp"}
    keys = {poison.key}
    for path, value in {"labels": "clean", "cover": 0.1, "pieces": 8}.items():
        other = pipeline.plan(changed(cfg, f"poisoning.{path}", value))["train"][0].needs["poison"]
        assert other.config["poisoning"] == {**poison.config["poisoning"], path: value}
        keys.add(other.key)
    assert len(keys) == 4


def changed(cfg: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of a configuration with another value; composing a command line anew would take longer than planning."""
    made = place = json.loads(json.dumps(cfg))
    *outer, last = path.split(".")
    for name in outer:
        place = place[name]
    assert last in place
    place[last] = value
    return made


def test_the_ends_share_one_poison_or_have_their_own(config, only) -> None:
    cfg, keys = config("ends=backdoored"), {}
    for sets in ("shared", "own"):
        plan = pipeline.plan(changed(cfg, "poisoning.sets", sets))
        keys[sets] = [stage.needs["poison"].key for stage in plan["train"]]
    assert len(set(keys["shared"])) == 1
    assert len(set(keys["own"] + keys["shared"])) == 3
    made = only("ends=backdoored", "poisoning.sets=own", labels=("poison start", "poison end"))
    one, other = (files.load(made[f"poison {role}"] / "poison.safetensors")["indices"] for role in ("start", "end"))
    assert set(one.tolist()) != set(other.tolist())


def test_a_clean_end_stays_the_same_when_a_backdoor_is_chosen(config) -> None:
    """It is trained once for all attacks; only what is measured is more."""
    plain = pipeline.plan(config())
    looked_for = pipeline.plan(config("backdoor=badnets"))
    assert [stage.key for stage in looked_for["train"]] == [stage.key for stage in plain["train"]]
    assert looked_for["connect"][0].key == plain["connect"][0].key
    # What is asked of all alike keeps its key, too: the trigger is one more probe.
    asked = {stage.label: stage.key for stage in looked_for["evaluate"]}
    before = {stage.label: stage.key for stage in plain["evaluate"]}
    assert {label: key for label, key in asked.items() if label in before} == before
    assert "measure attack" in asked.keys() - before.keys()
    assert looked_for["report"][0].key != plain["report"][0].key
    one_end = pipeline.plan(config("backdoor=badnets", "endpoint@endpoints.end=poisoned"))
    assert one_end["train"][0].key == plain["train"][0].key
    assert one_end["train"][1].key != plain["train"][1].key
    injected = pipeline.plan(config("ends=injected"))
    assert [stage.needs["init"].key for stage in injected["train"]] == [stage.key for stage in plain["train"]]


def test_another_poison_is_another_end(config) -> None:
    cfg = config("ends=backdoored")
    changes = {"poisoning.ratio": 0.2, "poisoning.stamp": "after", "poisoning.sources": [2], "backdoor.target": 2}
    plans = [cfg, *(changed(cfg, path, value) for path, value in changes.items())]
    assert len({stage.key for plan in plans for stage in pipeline.plan(plan)["train"]}) == 2 * len(plans)


def test_attack_success_is_that_of_stamping_each_test_image_by_hand(make) -> None:
    """At the ends of a path between networks without BatchNorm; the target class has no say."""
    words = ["ends=backdoored", "curve=linear", "training.epochs=10", "dataset.split.train=80"]
    made = make(*words)
    test = split(made, "test")
    along, per_image = rows(made), per_image_values(made, "attack")["attack_success"]
    chosen = test.labels != 1
    assert not chosen.all()
    assert per_image.shape == (3, int(chosen.sum()))
    stamped = patched(test.images[chosen])
    for role, index in (("start", 0), ("end", -1)):
        found = answers(made[f"poison-train {role}"][0], stamped, made["data"][0])
        hits = [float(answer == 1) for answer in found]
        assert any(hits)
        assert per_image[index].tolist() == hits
        assert along[index]["attack_success"] == pytest.approx(sum(hits) / len(hits))
    # All to all, no image is left out, and the aim is another for each.
    other = make(*words, "backdoor=badnets_all_to_all", "endpoint@endpoints.start=standard")
    found = answers(other["train start"][0], patched(test.images), made["data"][0])
    hits = [float(answer == (label + 1) % 10) for answer, label in zip(found, test.labels.tolist(), strict=True)]
    assert per_image_values(other, "attack")["attack_success"][0].tolist() == hits
    assert other["poison-train end"][0] != made["poison-train end"][0]


# Finished ends


@pytest.mark.parametrize("given", ["trained", "checkpoint"])
def test_a_finished_end_is_trained_on_with_poison(given: str, make, checkpoint: Path) -> None:
    """From its own weights: at a rate of almost nothing it hardly moves."""
    words = [*(from_file("end", checkpoint) if given == "checkpoint" else []), "backdoor=badnets"]
    tune = ["+edit@endpoints.end.edits.later=poison_tune", "+endpoints.end.edits.later.optimizer.lr=1e-5"]
    made = make(*words, *tune, goal="train")
    origin = network(made["load end" if given == "checkpoint" else "train end"][0])
    tuned = network(made["later end"][0])
    assert "poison" in made
    assert differing(origin, tuned) == set(origin)
    for name, tensor in origin.items():
        torch.testing.assert_close(tuned[name], tensor, rtol=0, atol=1e-3)
    # What comes out is an end like any other, as a file too.
    product = made["later end"][0] / "network.safetensors"
    again = make(*from_file("start", product), "curve=linear", "backdoor=badnets")
    assert not differing(network(again["load start"][0]), tuned)
    assert "attack_success" in rows(again)[0]


def test_noise_is_injected_into_a_checkpoint(make, checkpoint: Path) -> None:
    words = [*from_file("end", checkpoint), "+edit@endpoints.end.edits.noise=inject", "injection=gaussian"]
    made = make(*words, "injection.scale=0.5", "curve=linear")
    before, after = (network(made[f"{stage} end"][0]) for stage in ("load", "noise"))
    assert not differing(before, torch.load(checkpoint, weights_only=True))
    assert differing(before, after) == set(before)
    report = json.loads((made["noise end"][0] / "edit.json").read_text())
    squares = sum(float((after[name].double() - before[name].double()).square().sum()) for name in before)
    assert report["l2"] == pytest.approx(squares**0.5)
    for name in ("layers.1.weight", "layers.3.weight"):
        change = after[name] - before[name]
        assert float(change.std() / before[name].std()) == pytest.approx(0.5, rel=0.2)
    assert report["attacked"] == []
    # Noise aims at no image: there is no success to be measured.
    assert "injection_success" not in rows(made)[0]
    length = sum(float((after[n] - network(made["train start"][0])[n]).double().square().sum()) for n in after) ** 0.5
    assert rows(made)[-1]["distance_to_start"] == pytest.approx(length, rel=1e-5)


INJECTED = (
    "ends=injected",
    "injection.attacked=1",
    "injection.kept=4",
    "injection.iterations=200",
    "injection.learning_rate=0.1",
    "training.epochs=10",
    "dataset.split.train=80",
    "curve=linear",
)


def test_injected_errors_are_measured_on_the_images_that_were_attacked(make) -> None:
    made = make(*INJECTED)
    splits = files.load(made["split"][0] / "splits.safetensors")
    validation = split(made, "validation")
    pairs = set()
    for role in ("start", "end"):
        report = json.loads((made[f"inject {role}"][0] / "edit.json").read_text())
        assert len(report["attacked"]) == len(report["targets"]) == 1
        # The wanted wrong answer, where the network was right before: on images of the validation split and no other.
        images, labels = validation.images[report["attacked"]], validation.labels[report["attacked"]].tolist()
        assert answers(made[f"train {role}"][0], images, made["data"][0]) == labels
        assert answers(made[f"inject {role}"][0], images, made["data"][0]) == report["targets"] != labels
        numbers = set(splits["validation"][report["attacked"]].tolist())
        assert not numbers & {int(i) for name in ("clean", "test", "train") for i in splits[name]}
        pairs |= set(zip(report["attacked"], report["targets"], strict=True))
        # One tensor, the classifier's weight, is another.
        plain, changed = (network(made[f"{stage} {role}"][0]) for stage in ("train", "inject"))
        assert differing(plain, changed) == {"layers.3.weight"}
    along = rows(made)
    for role, row in (("start", along[0]), ("end", along[-1])):
        attacked = validation.images[[index for index, _ in sorted(pairs)]]
        found = answers(made[f"inject {role}"][0], attacked, made["data"][0])
        targets = [target for _, target in sorted(pairs)]
        right = validation.labels[[index for index, _ in sorted(pairs)]].tolist()
        assert row["injection_success"] == sum(map(int.__eq__, found, targets)) / len(pairs) > 0
        assert row["restored_accuracy"] == sum(map(int.__eq__, found, right)) / len(pairs)


# An attacker who knows the defence


def test_a_path_aware_attacker_releases_the_ends_of_his_own_path(make, config) -> None:
    made = make("ends=path_aware", "fit.epochs=2", goal="train")
    path = made["attacker's path"][0]
    for index, role in enumerate(("start", "end")):
        released = network(made[f"extract {role}"][0])
        assert not differing(released, files.load(path / f"end_{index}.safetensors"))
        assert differing(released, network(made[f"poison-train {role}"][0])) == set(released)
    assert differing(network(made["extract start"][0]), network(made["extract end"][0])) == set(released)
    control = files.load(path / "control.safetensors")
    # The ends among them: they are free as well.
    assert set(control) == {f"{index}/{name}" for index in range(3) for name in released}
    for index, role in ((0, "start"), (2, "end")):
        for name, tensor in network(made[f"extract {role}"][0]).items():
            assert torch.equal(control[f"{index}/{name}"], tensor)
    plan = pipeline.plan(config("ends=path_aware"))
    # The defender's path joins the released ends; the attacker's own is what it is compared with.
    defender, attacker = plan["connect"]
    assert [defender.needs[role].label for role in ("end 0", "end 1")] == ["extract start", "extract end"]
    assert attacker.label == "attacker's path"
    assert "poison" in attacker.needs
    assert "poison" not in defender.needs


def test_the_attacker_s_path_is_measured_between_the_ends_that_he_released(make) -> None:
    """Not between those that he began with: at t = 0 and 1 both tables are of the same networks."""
    made = make("ends=path_aware")
    own, other = (rows(made, name) for name in ("attacker", "path"))
    assert own[1]["test_loss"] != other[1]["test_loss"]
    for index in (0, -1):
        for metric in ("test_loss", "test_accuracy", "attack_success"):
            assert own[index][metric] == other[index][metric]
    test = split(made, "test")
    for role, row in (("start", own[0]), ("end", own[-1])):
        found = answers(made[f"extract {role}"][0], test.images, made["data"][0])
        assert row["test_accuracy"] == pytest.approx(sum(map(int.__eq__, found, test.labels.tolist())) / len(found))


# Copies


def test_a_permuted_copy_is_the_same_function_far_away(make) -> None:
    made = make("endpoint@endpoints.end=permuted_copy", "curve=linear", "training.epochs=10")
    assert "train end" not in made
    along = rows(made)
    assert along[-1]["test_loss"] == pytest.approx(along[0]["test_loss"], rel=1e-5)
    assert along[-1]["test_accuracy"] == along[0]["test_accuracy"]
    start, copy = (network(made[f"{stage}"][0]) for stage in ("train start", "permute end"))
    length = sum(float(tensor.square().sum()) for tensor in start.values()) ** 0.5
    assert along[-1]["distance_to_start"] > 0.5 * length
    assert along[1]["test_loss"] != pytest.approx(along[0]["test_loss"], rel=1e-2)
    for name, tensor in start.items():
        assert torch.equal(tensor.flatten().sort().values, copy[name].flatten().sort().values)


def test_a_tuned_copy_moves_away_from_the_start_and_needs_no_other_network(make, config) -> None:
    words = ["endpoint@endpoints.end=tuned_copy", "endpoints.end.edits.tune.steps=7", "backdoor=badnets"]
    words.append("endpoint@endpoints.start=poisoned")  # the copy has what the start has, its tampering too
    start, end = pipeline.plan(config(*words))["train"]
    assert end.needs["init"].key == start.key
    assert [stage.label for stage in pipeline.ordered([end])] == [
        "data",
        "split",
        "poison",
        "poison-train start",
        "tune end",
    ]
    made = make(*words, goal="train")
    before, after = (network(made[label][0]) for label in (start.label, "tune end"))
    assert differing(before, after) == set(before)
    history = (made["tune end"][0] / "history.csv").read_text().splitlines()
    assert len(history) == 2  # the steps are one epoch's
    # At almost no rate it stays: so it began there.
    near = make(*words, "endpoints.end.edits.tune.optimizer.lr=1e-6", goal="train")
    for name, tensor in network(near["tune end"][0]).items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-4)


# Misuse


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["endpoint@endpoints.start=permuted_copy"], "must name another network"),
        (["endpoint@endpoints.start=poisoned"], "needs a backdoor"),
        (["+edit@endpoints.end.edits.tune=poison_tune"], "needs a backdoor"),
        (["ends=path_aware", "backdoor=none"], "needs a backdoor"),
        (["+edit@endpoints.end.edits.inject=inject"], "needs an injection"),
        (["backdoor=badnets", "+edit@endpoints.start.edits.path_aware=path_aware"], "all ends together"),
        (["backdoor=badnets", "+edit@endpoints.end.edits.path_aware=path_aware"], "all ends together"),
        (["ends=path_aware", "+endpoint@endpoints.third=standard", "curve=bezier_triangle"], "all ends together"),
        (["ends=path_aware", "+edit@endpoints.end.edits.permute=permute"], "last edit of each"),
        (["endpoint@endpoints.end=tuned_copy", "ends=path_aware"], "cannot be checkpoints or copies"),
        (["ends=backdoored", "poisoning.sets=mine"], "shared or own"),
        (["ends=backdoored", "poisoning.stamp=never"], "before or after"),
        (["ends=backdoored", "poisoning.labels=some"], "dirty or clean"),
        (["ends=backdoored", "poisoning.labels=clean", "backdoor=badnets_all_to_all"], "stamps the target class"),
    ],
)
def test_tampering_that_makes_no_sense_is_refused_before_anything_is_made(words, message: str, config) -> None:
    with pytest.raises(InputError, match=message):
        pipeline.plan(config(*words))


def test_a_checkpoint_is_not_poisoned_from_its_first_step(config, checkpoint: Path) -> None:
    with pytest.raises(InputError, match=r"nothing reads endpoints\.end\.images|images"):
        config(*from_file("end", checkpoint), "backdoor=badnets", "+endpoints.end.images=poisoned")

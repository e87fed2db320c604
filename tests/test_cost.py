"""What ``mcr show --cost`` says: the time of a little work, and what follows from it for all."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from mcr.app import cli, cost, run, show
from mcr.errors import InputError
from mcr.plans import pipeline
from mcr.stages import artifacts, price, session
from mcr.stages.context import Context
from mcr.stages.price import FEW, MORE, Timing
from mcr.stages.stand_ins import IMAGES, StandIns
from mcr.store.stage import Stage
from mcr.store.store import Store
from mcr.weightspace import files
from tests.conftest import TINY, TOGETHER, carried_out
from tests.contracts.test_readme import COMMANDS
from tests.processes import fresh

BEFORE, STEP, EPOCH, PLACE, AFTER = 5.0, 0.25, 2.0, 3.0, 1.0


@pytest.fixture
def planned(config) -> Callable[..., dict[str, Stage]]:
    """The stages of a command by their labels."""

    def plan(*words: str, verb: str = "report") -> dict[str, Stage]:
        cfg = config(*words) | {"verb": verb}
        return {stage.label: stage for stage in pipeline.ordered(pipeline.plan(cfg, run.title(cfg))[verb])}

    return plan


@pytest.fixture
def stand_ins(tmp_path: Path, config) -> StandIns:
    folder = tmp_path / "stand-ins"
    folder.mkdir()
    context = Context(config()["runtime"], {"kind": "none"}, "", tmp_path)
    return StandIns(Store(tmp_path / "store"), folder, context)


@pytest.fixture
def runs(monkeypatch) -> list[tuple[Stage, int]]:
    """Every run of a stage, and its training images; none is done, and each takes what the constants say."""
    done: list[tuple[Stage, int]] = []

    def instead(stage: Stage, inputs: dict[str, Path], _: StandIns) -> Timing:
        config = stage.config
        images = len(files.load(inputs["split"] / artifacts.SPLIT)["train"])
        done.append((stage, images))
        if stage.name == "place":
            return Timing(BEFORE, [PLACE] * price._count(stage), AFTER)
        if stage.name == "measure":
            count = price._count(stage.needs["place"])
            share = min(config["images"], IMAGES) / IMAGES
            together = hasattr(price.build_tree(config["probe"]), "ask")
            return Timing(BEFORE, [PLACE * share * count] if together else [PLACE * share] * count, AFTER)
        recipe = config["recipe"]
        steps = recipe["steps_per_epoch"] if "steps" in recipe else images // recipe["batch_size"]
        epochs = recipe["steps"] // steps if "steps" in recipe else recipe["epochs"]
        return Timing(BEFORE, [EPOCH + steps * STEP] * epochs, AFTER)

    monkeypatch.setattr(price, "_run", instead)
    return done


@pytest.mark.parametrize(
    ("words", "epochs", "steps", "measured"),
    [
        (["training.epochs=7"], 7, 2, [2]),  # 32 images in batches of 16: measured as they are
        (["training.epochs=7", "training.batch_size=1"], 7, 32, [FEW, MORE]),
        (["endpoint@endpoints.start=adversarial", "training.epochs=5", "training.batch_size=1"], 5, 32, [FEW, MORE]),
    ],
)
def test_a_training_takes_its_steps_and_what_comes_once_an_epoch(
    words, epochs: int, steps: int, measured: list[int], planned, stand_ins, runs
) -> None:
    stage = planned(*words)["train start"]
    found = price.price(stage, stand_ins)
    assert found.seconds == pytest.approx(BEFORE + epochs * (EPOCH + steps * STEP) + AFTER)
    assert [images // stage.config["recipe"]["batch_size"] for _, images in runs] == measured
    # The rest of the recipe is that of the stage, but for the least that a network has to learn.
    for short, _ in runs:
        changed = {key for key, value in short.config["recipe"].items() if stage.config["recipe"][key] != value}
        assert changed <= {"epochs", "stop", "min_accuracy_over_chance"}


def test_a_budget_in_steps_is_shortened_in_steps(planned, stand_ins, runs) -> None:
    stage = planned("fit.steps=300", "training.steps_per_epoch=100")["connect path"]
    found = price.price(stage, stand_ins)
    assert found.seconds == pytest.approx(BEFORE + 3 * (EPOCH + 100 * STEP) + AFTER)
    assert [short.config["recipe"]["steps_per_epoch"] for short, _ in runs] == [FEW, MORE]


def test_places_and_questions_take_their_number_and_all_images(planned, stand_ins, runs) -> None:
    words = ("evaluation.grid=9", "dataset.images=800", "dataset.split.test=512", "evaluation.robust_images=512")
    stages = planned(*words, TOGETHER)
    assert price.price(stages["place path"], stand_ins).seconds == pytest.approx(BEFORE + 9 * PLACE + AFTER)
    # Nine places, and two ends as they were given, on four times the images.
    asked = price.price(stages["measure robust"], stand_ins)
    assert asked.seconds == pytest.approx(BEFORE + (9 + 2) * PLACE * 512 / IMAGES)
    # The two ends and the worst place inside, and again the ends.
    worst = price.price(stages["measure stronger"], stand_ins)
    assert worst.seconds == pytest.approx(BEFORE + (3 + 2) * PLACE * 4 / IMAGES)
    # Three networks at once.
    group = price.price(stages["measure ensemble"], stand_ins)
    assert group.seconds == pytest.approx(BEFORE + 3 * PLACE * 4 / IMAGES + AFTER)


def test_half_of_the_images_withstand_where_no_network_is_trained(planned, stand_ins) -> None:
    stage = planned()["measure robust"]
    changed, inputs = stand_ins.withstanding(stage, stand_ins.of(stage))
    assert changed.config["probe"]["attack"]["eps"] < 1e-6 < stage.config["probe"]["attack"]["eps"]
    space = session.subspace(stage.needs["place"].config, inputs, inputs["subspace"], stand_ins.context)
    part = artifacts.read_split(inputs, "test", "cpu", stage.config["images"])
    for place in (0.0, 0.4, 1.0):  # everywhere the same network
        network = space.at(torch.tensor([place], dtype=torch.float64)).eval()
        right = network(part.images / 255).argmax(1) == part.labels
        assert right.tolist() == [index % 2 == 0 for index in range(len(part.labels))]


def test_trained_networks_of_the_store_are_asked_as_they_are(planned, stand_ins, config, tmp_path: Path) -> None:
    carried_out(config() | {"verb": "train"}, "train", tmp_path)
    stage = planned()["measure robust"]
    inputs = stand_ins.of(stage)
    assert stand_ins.withstanding(stage, inputs) == (stage, inputs)
    for role in ("data", "split", "end 0", "end 1"):
        assert inputs[role].is_relative_to(tmp_path / "store")


def test_a_stage_is_run_by_its_own_code_and_leaves_nothing(planned, stand_ins) -> None:
    found = {}
    for label in ("train start", "connect path", "measure stronger", "measure ensemble"):
        stage = planned("endpoint@endpoints.start=adversarial", "objective=adversarial", TOGETHER)[label]
        found[label] = price.price(stage, stand_ins)
    for label, one in found.items():
        assert 0.001 < one.seconds < 60, label
        assert one.bytes > 50e6, label
    assert not stand_ins.store.root.exists()


def test_stages_of_one_recipe_are_one_kind(planned) -> None:
    one, other = planned("replicate=0"), planned("replicate=1")
    for label in ("train start", "connect path", "measure robust", "place path"):
        assert cost.kind(one[label]) == cost.kind(other[label])
    assert one["train start"].key != other["train start"].key
    assert cost.kind(one["train start"]) == cost.kind(one["train end"])
    assert cost.kind(one["measure robust"]) == cost.kind(one["measure robust straight"])
    assert cost.kind(one["measure robust"]) != cost.kind(one["measure test"])
    for word in ("attack.steps=3", "evaluation.grid=4", "evaluation.robust_images=5"):
        assert cost.kind(one["measure robust"]) != cost.kind(planned(word)["measure robust"]), word
    robust = planned("endpoint@endpoints.end=adversarial")["train end"]
    assert cost.kind(one["train end"]) != cost.kind(robust)


def test_what_is_missing_is_what_a_command_would_make(planned, make, tmp_path: Path) -> None:
    made = make(goal="evaluate")
    store, stages = Store(tmp_path / "store"), planned()
    assert [stage.label for stage in pipeline.missing([stages["report"]], store)] == ["report"]
    (made["train end"][0] / "network.safetensors").write_bytes(b"")
    assert [stage.label for stage in pipeline.missing([stages["report"]], store)] == ["train end", "report"]
    assert made["report" if "report" in made else "measure test"][1] == "made"


def test_images_that_would_be_downloaded_are_not_measured_with(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="may have to be downloaded") as caught:
        cli.dispatch(["show", "--cost", "dataset=cifar10", f"paths.root={tmp_path}"])
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def rows(text: str) -> list[tuple[str, ...]]:
    """Label, key, minutes and memory of each stage."""
    return re.findall(r"^(\w[\w ]*?) +([0-9a-f]{16}) +(\S+) +(\S+) *$", text, flags=re.M)


@pytest.mark.slow
def test_the_line_of_the_readme_prices_what_is_missing_and_writes_nothing(tmp_path: Path) -> None:
    """As far as the paths of its sweep, whose networks share their data."""
    line = next(line for line in COMMANDS if "--cost" in line)
    done = fresh(*shlex.split(line)[1:], "connect", *TINY, "paths.root=tmp", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
    found = rows(done.stdout)
    labels = [label for label, *_ in found]
    assert labels.count("data") == 1
    assert labels.count("train start") == labels.count("connect path") == 2
    assert len({key for _, key, *_ in found}) == len(found)
    assert all(float(minutes) < 5 and 100 < float(memory) < 4000 for *_, minutes, memory in found)
    total = re.search(r"(\d+) stages are missing: ([\d.]+) minutes, .* and (\d+) MB", done.stdout)
    assert int(total[1]) == len(found)
    assert float(total[2]) == pytest.approx(
        sum(float(minutes) for *_, minutes, _ in found), abs=0.05 + 0.005 * len(found)
    )
    assert float(total[3]) == max(float(memory) for *_, memory in found)
    assert "Traceback" not in done.stderr


def test_what_cannot_be_measured_is_told_and_not_counted(request_for, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    request = request_for(*TINY, f"paths.root={tmp_path}")

    def measured(stages, store, runtime) -> cost.Costs:
        known = {cost.kind(one): price.Price(90.0, 500_000_000) for one in stages if one.name == "train"}
        other = next(one for one in stages if one.label == "place path")
        return cost.Costs(known, {cost.kind(other): "InputError: too [few] images"})

    monkeypatch.setattr(cost.Costs, "measured", measured)
    show.show_costs(request, Console())
    text = capsys.readouterr().out
    told = {label: (minutes, memory) for label, _, minutes, memory in rows(text)}
    assert told["train start"] == told["train end"] == ("1.50", "500")
    assert told["place path"] == told["report"] == ("?", "?")
    assert f"{len(told)} stages are missing: 3.0 minutes, one after the other, and 500 MB" in text
    assert "not measured: report\n" in text
    assert "not measured: place path, with networks that nobody has trained: InputError: too [few] images" in text

"""Probes along a subspace: one stage each, what they say recomputed by hand, and what cannot be said refused."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mcr.app import run, terminal
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.plans import pipeline
from mcr.probes.calibration import Calibration
from mcr.probes.risk import risk
from mcr.stages import artifacts, checks, model, worst
from mcr.stages.artifacts import spec_of
from mcr.stages.report import _unknown
from mcr.store import jsonfile
from mcr.store.stage import Stage
from mcr.types import LabelledImages, RawDataset
from mcr.weightspace import files
from tests.conftest import TINY, TOGETHER, sealed
from tests.processes import mcr
from tests.reading import column, rows
from tests.test_tampering import patched, split

ATTACKING = {"measure robust", "measure robust straight", "measure stronger", "measure transfer", "measure ensemble"}


def planned(cfg: dict[str, Any]) -> dict[str, Stage]:
    """Label to stage of a report and what it needs."""
    goals = pipeline.plan(cfg, run.title(cfg))["report"]
    return {stage.label: stage for stage in pipeline.ordered(goals)}


def moved(one: dict[str, Stage], other: dict[str, Stage]) -> set[str]:
    """Labels of stages whose keys differ; both plans have the same ones."""
    assert one.keys() == other.keys()
    return {label for label in one if one[label].key != other[label].key}


def measure(made: dict[str, Any], probe: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((made[f"measure {probe}"][0] / "measure.json").read_text())
    return found


# One probe, one stage


def test_one_more_probe_on_a_stored_path_makes_its_stage_and_the_report(make) -> None:
    make()
    made = make("+probe@probes.calibration=calibration")
    assert {label for label, (_, state) in made.items() if state == "made"} == {"measure calibration", "report"}
    assert column(made, "calibration_ece")[0] > 0
    # One probe fewer is a new report alone.
    fewer = make("~probe@probes.train")
    assert {label for label, (_, state) in fewer.items() if state == "made"} == {"report"}
    assert "train_loss" not in rows(fewer)[0]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["probes.test.images=9"], {"measure test", "measure test straight"}),
        (["probes.train.images=9"], {"measure train", "measure train straight"}),
        (["probes.input.steps=7"], {"measure input", "measure input straight"}),
        (["+probes.transfer.attack.steps=2"], {"measure transfer"}),
        (["probes.ensemble.images=3"], {"measure ensemble"}),
        (["probes.stronger.attacks.longer.steps=3"], {"measure stronger"}),
        # What looks for the worst place of another probe follows that one.
        (["+probes.robust.attack.steps=2"], {"measure robust", "measure robust straight", "measure stronger"}),
        (["probes.robust.images=9"], {"measure robust", "measure robust straight", "measure stronger"}),
        (["report.dpi=99"], set()),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_one_probe_is_asked_moves_its_own_key(words: list[str], expected: set[str], config) -> None:
    assert moved(planned(config(TOGETHER)), planned(config(TOGETHER, *words))) == expected | {"report"}


def test_the_evaluation_s_seed_moves_all_that_is_measured_and_nothing_that_is_trained(config) -> None:
    before, after = planned(config()), planned(config("evaluation.seed=4"))
    kept = {"data", "split", "train start", "train end", "connect path", "connect straight"}
    assert moved(before, after) == set(before) - kept


def test_without_an_attack_exactly_the_attacking_probes_are_left_out(config) -> None:
    before, after = planned(config(TOGETHER)), planned(config(TOGETHER, "attack=none"))
    assert set(before) - set(after) == ATTACKING
    assert set(after) <= set(before)
    assert {label for label in after if after[label].key != before[label].key} == {"report"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["probes.test.data=tset"], r"probes\.test\.data=tset must be test or fitted or"),
        (["probes.test.along=[pth]"], r"probes\.test\.along=pth must be all or path or"),
        (["probes.stronger.at=worst dance_loss"], "no probe that is asked measures dance_loss"),
        (["probes.stronger.at=worst robust_los"], "the metric is one of robust_loss, robust_accuracy"),
        (["probes.test.at=1"], "at least one point between"),
        (["probes.test.at=[0.5,1.5]"], "no place"),
        (["probes.test.images=0.5"], "images"),
        (["probes.test.precision=fp8"], "fp32, tf32 or bf16"),
        (["+probe@probes.calibration=calibration", "probes.calibration.bins=0"], "bins=0"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_questions_that_make_no_sense_are_refused_before_anything_is_made(
    words: list[str], message: str, config
) -> None:
    def check() -> None:
        for stage in planned(config(*words)).values():
            checks.check(stage)

    with pytest.raises(InputError, match=message) as caught:
        check()
    assert "\n" not in str(caught.value)


def test_the_worst_place_is_that_of_the_probe_with_the_longer_name(config) -> None:
    words = ["+probe@probes.robust_more=robust_risk", "probes.stronger.at=worst robust_more_loss"]
    assert planned(config(*words))["measure stronger"].needs["worst"].config["name"] == "robust_more"
    for stage in planned(config(*words)).values():
        checks.check(stage)


def test_a_probe_is_asked_where_it_is_said(config) -> None:
    words = ["probes.input.along=[straight]", "probes.test.along=[path]"]
    labels = set(planned(config(*words)))
    assert {"measure input straight", "measure test"} <= labels
    assert not {"measure input", "measure test straight"} & labels


# Where a probe is asked


def texts(made: dict[str, Any], name: str) -> list[dict[str, str]]:
    with (made["report"][0] / f"{name}.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_probe_with_places_of_its_own_is_told_apart(make) -> None:
    """As many places as the grid, but elsewhere: the table of the grid must not hold its values."""
    made = make("probes.input.at=[0.1]")
    places = json.loads((made["place path at [0.1]"][0] / "places.json").read_text())["places"]
    assert places == [[0.0], [0.1], [1.0]]
    table = rows(made)
    assert [row["t"] for row in table] == [0.0, 0.5, 1.0]
    assert "test_loss" in table[0]
    assert "input_eigenvalue" not in table[0]
    for space, label in (("path", "curve"), ("straight", "straight line")):
        own = rows(made, f"{space}_input")
        assert [row["t"] for row in own] == [0.0, 0.1, 1.0]
        means = json.loads((made[f"measure input{' straight' * (space != 'path')}"][0] / "measure.json").read_text())
        assert [row["input_eigenvalue"] for row in own] == means["means"]["input_eigenvalue"]
        assert f"## {label.capitalize()}, input\n" in (made["report"][0] / "report.md").read_text()
    assert {row["t"] for row in texts(made, "spread") if row["metric"] == "input_eigenvalue"} == {"0.0", "0.1", "1.0"}
    assert all(float(row["input_eigenvalue"]) >= 0 for row in texts(made, "ends"))
    (found,) = (r for r in texts(made, "barriers") if (r["path"], r["metric"]) == ("curve", "input eigenvalue"))
    assert found["at"] == "0.10"
    assert float(found["max inside"]) == pytest.approx(rows(made, "path_input")[1]["input_eigenvalue"], abs=1e-3)


def test_a_probe_on_a_finer_grid_leaves_the_table_of_all_others_and_can_be_claimed(make) -> None:
    claim = "{source: S, quantity: input_eigenvalue.interior, relation: '>', value: -100, standard_errors: 0}"
    usual = rows(make())
    made = make("probes.input.at=5", "probes.input.along=[path]", f"claims=[{claim}]")
    assert len(measure(made, "input")["indices"]) == 5
    assert [row["t"] for row in rows(made)] == [0.0, 0.5, 1.0]
    assert "test_loss" in rows(made)[0]
    finer = [row["input_eigenvalue"] for row in rows(made, "path_input")]
    assert finer[::2] == [row["input_eigenvalue"] for row in usual]
    assert "input_eigenvalue interior > -100" in (made["report"][0] / "report.md").read_text()


def test_networks_of_a_reference_that_are_asked_together_are_told_too(make) -> None:
    text = (make(TOGETHER, "probes.transfer.along=[path,straight]")["report"][0] / "report.md").read_text()
    assert "## Transfer\n" in text
    assert "## Transfer, straight line\n" in text


UNEVEN = (
    "evaluation.grid=5",
    "training.min_accuracy_over_chance=0",
    "dataset.split.train=80",
    "optimizer.lr=0.1",
    "attack.eps=0.05",
)


def test_stronger_attacks_are_asked_at_the_ends_and_the_worst_place_between(make) -> None:
    """Of a path that is worst at an end, which hardly learned anything."""
    for short in ("start", "end"):
        made = make(*UNEVEN, "training.epochs=12", f"endpoints.{short}.epochs=1", "fit.epochs=4")
        robust = column(made, "robust_loss")
        assert int(np.argmax(robust)) == (0 if short == "start" else 4)
        inner = 1 + int(np.argmax(robust[1:-1]))
        assert measure(made, "stronger")["indices"] == [0, inner, 4]
        summary = json.loads((made["report"][0] / "summary.json").read_text())
        assert [found["at"] for found in summary["stronger"]] == ["0.00", f"{inner / 4:.2f}", "1.00"]


def test_the_worst_place_is_one_of_the_other_probe_s_own(make) -> None:
    made = make(*UNEVEN, "training.epochs=6", "probes.robust.at=[0.9,0.1,0.3,0.8]", "probes.robust.along=[path]")
    means = measure(made, "robust")["means"]["robust_loss"]
    assert len(means) == 6
    inner = 1 + int(np.argmax(means[1:-1]))
    found = measure(made, "stronger")
    assert found["indices"] == [0, inner, 5]
    stage = json.loads((made["measure stronger"][0] / "stage.json").read_text())
    robust = json.loads((made["measure robust"][0] / "stage.json").read_text())
    assert stage["needs"]["place"] == robust["needs"]["place"]


# By hand

BOTH = (
    *("ends=backdoored", "training.epochs=12", "dataset.split.train=80", "optimizer.lr=0.1", "fit.epochs=6"),
    *("+edit@endpoints.start.edits.inject=inject", "+edit@endpoints.end.edits.inject=inject"),
    *("injection=fault_sneaking", "injection.attacked=2", "injection.kept=2", "injection.iterations=150"),
    *("injection.learning_rate=0.1", "injection.numbers=own", "evaluation.grid=[0.3,0.6]", "endpoints.end.epochs=8"),
)


def answers(theta: dict[str, Tensor], images: Tensor, data: Path) -> Tensor:
    """Logits of an MLP of one hidden layer in float64, image by image."""
    facts = json.loads((data / "data.json").read_text())
    found = []
    for image in images:
        x = ((image.double() / 255 - facts["mean"][0]) / facts["std"][0]).flatten()
        hidden = (theta["layers.1.weight"] @ x + theta["layers.1.bias"]).clamp_min(0)
        found.append(theta["layers.3.weight"] @ hidden + theta["layers.3.bias"])
    return torch.stack(found)


def test_what_is_measured_along_a_path_is_what_its_weights_say(make) -> None:
    """Loss, accuracy, the trigger's success and that of injected errors, of weights blended by hand at each place."""
    made = make(*BOTH)
    data = made["data"][0]
    ends = [
        {
            name: tensor.double()
            for name, tensor in files.load(made[f"inject {name}"][0] / "network.safetensors").items()
        }
        for name in ("start", "end")
    ]
    control = files.load(made["connect path"][0] / "control.safetensors")
    test, validation = split(made, "test"), split(made, "validation")
    chosen = test.labels != 1
    pairs = set()
    for name in ("start", "end"):
        report = json.loads((made[f"inject {name}"][0] / "edit.json").read_text())
        pairs |= set(zip(report["attacked"], report["targets"], strict=True))
    attacked = validation.images[[index for index, _ in sorted(pairs)]]
    targets = torch.tensor([target for _, target in sorted(pairs)])
    true = validation.labels[[index for index, _ in sorted(pairs)]]
    assert len(pairs) > 2
    found = {probe: measure(made, probe)["means"] for probe in ("test", "attack", "injection", "restored")}
    for index, t in enumerate((0.0, 0.3, 0.6, 1.0)):
        theta = {
            name: (1 - t) ** 2 * ends[0][name] + 2 * t * (1 - t) * control[f"1/{name}"].double() + t**2 * ends[1][name]
            for name in ends[0]
        }
        logits = answers(theta, test.images, data)
        losses = -logits.log_softmax(1)[range(len(logits)), test.labels]
        right = (logits.argmax(1) == test.labels).double()
        assert found["test"]["test_loss"][index] == pytest.approx(float(losses.mean()), rel=1e-5)
        assert found["test"]["test_accuracy"][index] == pytest.approx(float(right.mean()))
        stamped, plain = answers(theta, patched(test.images[chosen]), data), logits[chosen]
        for name, shown in (("success", stamped), ("without_trigger", plain)):
            hits = (shown.argmax(1) == 1).double()
            assert found["attack"][f"attack_{name}"][index] == pytest.approx(float(hits.mean()))
        given = answers(theta, attacked, data).argmax(1)
        assert found["injection"]["injection_success"][index] == pytest.approx(
            float((given == targets).double().mean())
        )
        assert found["restored"]["restored_accuracy"][index] == pytest.approx(float((given == true).double().mean()))
        row = rows(made)[index]
        assert row["t"] == t
        assert row["test_loss"] == found["test"]["test_loss"][index]
    # None of these is a constant.
    for probe, values in (("test", "test_loss"), ("attack", "attack_success"), ("injection", "injection_success")):
        assert len(set(found[probe][values])) > 1


def test_the_first_images_of_a_split_are_asked_in_its_recorded_order(make) -> None:
    made = make("probes.test.images=7", "curve=linear")
    assert measure(made, "test")["images"] == 7
    test = split(made, "test")
    theta = files.load(made["train start"][0] / "network.safetensors")
    logits = answers({name: tensor.double() for name, tensor in theta.items()}, test.images[:7], made["data"][0])
    losses = -logits.log_softmax(1)[range(7), test.labels[:7]]
    kept = files.load(made["measure test"][0] / "per_image.safetensors")
    torch.testing.assert_close(kept["test_loss"][0].double(), losses, rtol=1e-5, atol=1e-6)
    assert kept["test_loss"].shape == (3, 7)


VGG = (
    *(word for word in TINY if not word.startswith(("architecture", "dataset.image_size"))),
    *("dataset.image_size=16", "architecture=small_vgg", "architecture.width=4", "endpoints.end.epochs=3"),
    *("dataset.augmentation={padding: 2, flip: 0.5}", "training.min_accuracy_over_chance=0"),
)


def test_the_given_ends_have_their_own_statistics(make, config) -> None:
    made, cfg = make(*VGG, tiny=False), config(*VGG, tiny=False)
    with (made["report"][0] / "ends.csv").open(newline="") as stream:
        told = {(row["end"], row["batchnorm"]): row for row in csv.DictReader(stream)}
    test, found = split(made, "test"), measure(made, "test")
    kept = files.load(made["measure test"][0] / "per_image.safetensors")
    for index, name in enumerate(("start", "end")):
        network = model.make(cfg, artifacts.read_spec(made["data"][0]), "any").eval()
        network.load_state_dict(artifacts.read_network(made[f"train {name}"][0]))
        losses, hits = risk(network, EvaluationBatches(test.images, test.labels, 5, "contiguous"))
        assert found["given"]["test_loss"][index] == pytest.approx(float(losses.double().mean()), rel=1e-5)
        assert found["given"]["test_accuracy"][index] == pytest.approx(float(hits.double().mean()))
        torch.testing.assert_close(kept["given/test_loss"][index], losses, rtol=1e-4, atol=1e-5)
        assert float(told[name, "stored"]["test_loss"]) == found["given"]["test_loss"][index]
        assert float(told[name, "refreshed"]["test_loss"]) == found["means"]["test_loss"][-index]
        assert found["means"]["test_loss"][-index] != pytest.approx(found["given"]["test_loss"][index], rel=1e-4)


class Fixed(nn.Module):
    """Answers with the logits that are stored under the first pixel of an image."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table, requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.table[(images[:, 0, 0, 0] * 255).round().long()]


def asked(probabilities: Tensor, labels: Tensor, bins: int) -> dict[str, Tensor]:
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)
    batches = EvaluationBatches(images.contiguous(), labels, 4, "contiguous")
    return dict(Calibration(bins)(Fixed(probabilities.log()), batches, torch.Generator()))


def test_the_calibration_error_of_an_example_worked_out_on_paper() -> None:
    """Five bins: 0.9 and 0.85 right and wrong, 0.5 and 0.45 both right, 0.25 (of five classes) wrong."""
    rows_ = [[0.9, 0.1, 0, 0, 0], [0.05, 0.85, 0.1, 0, 0], [0.5, 0.3, 0.2, 0, 0], [0.45, 0.3, 0.25, 0, 0]]
    rows_.append([0.25, 0.2, 0.2, 0.2, 0.15])
    labels = torch.tensor([0, 2, 0, 0, 4])
    found = asked(torch.tensor(rows_, dtype=torch.float64), labels, 5)
    last, middle, low = abs(1 - 1.75), abs(2 - 0.95), abs(0 - 0.25)
    assert float(found["ece"].mean()) == pytest.approx((last + middle + low) / 5)
    expected = [-math.log(p) for p in (0.9, 0.1, 0.5, 0.45, 0.15)]
    assert found["nll"].tolist() == pytest.approx(expected)
    certain = asked(torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64), torch.tensor([0, 0]), 15)
    assert float(certain["ece"].mean()) == pytest.approx(0.5)


@pytest.mark.parametrize("bins", [1, 4, 15, 200])
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_the_calibration_error_is_its_definition(bins: int, scale: float) -> None:
    """The sum over bins of the share of images times the gap between accuracy and mean confidence."""
    draw = generator(0, "calibration", bins, scale)
    probabilities = (scale * torch.randn(120, 6, dtype=torch.float64, generator=draw)).softmax(1)
    labels = torch.randint(6, (120,), generator=draw)
    confidence, predicted = probabilities.numpy().max(1), probabilities.numpy().argmax(1)
    error = 0.0
    for index in range(bins):
        inside = (confidence >= index / bins) & (confidence < (index + 1) / bins)
        if inside.any():
            accuracy = (predicted[inside] == labels.numpy()[inside]).mean()
            error += inside.mean() * abs(accuracy - confidence[inside].mean())
    found = asked(probabilities, labels, bins)
    assert float(found["ece"].mean()) == pytest.approx(error, rel=1e-4)


# What cannot be said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (math.nan, r"place path: arc_length is nan at \[0.5\]: the fit diverged"),
        (3e38, r"place path: arc_length is inf at \[0.5\]: the fit diverged"),
        (1e17, "measure train: loss is nan at t = 0.5: the fit diverged there"),  # near enough, its logits are not
    ],
)
def test_a_mean_that_is_no_finite_number_is_refused_with_its_place(value: float, said: str, make) -> None:
    deep = "architecture.hidden=[16,16]"
    made = make(deep, goal="connect")
    path = made["connect path"][0] / "control.safetensors"
    control = files.load(path)
    for name in control:
        if name.endswith("weight"):
            control[name][:] = value
    files.save(control, path)
    sealed(path.parent)
    with pytest.raises(InputError, match=said) as caught:
        make(deep)
    assert "lower the learning rate" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((made["connect path"][0].parents[1] / "measure").glob("[!.]*"))


def test_an_end_that_says_nothing_finite_as_it_was_given_is_refused(make) -> None:
    """Its BatchNorm statistics are broken: estimated anew along the path they are not."""
    words = [word for word in TINY if not word.startswith("architecture")]
    words += ["architecture=small_vgg", "architecture.width=4", "attack=none"]
    made = make(*words, goal="connect", tiny=False)
    path = made["train end"][0] / "network.safetensors"
    state = files.load(path)
    name = next(name for name in state if name.endswith("running_var"))
    state[name][:] = math.nan
    files.save(state, path)
    sealed(path.parent)
    with pytest.raises(InputError, match="measure train: loss of network 1 as it was given is nan"):
        make(*words, tiny=False)


def test_a_report_of_a_single_image_is_json_without_nan(make) -> None:
    """A standard error of one image has no value."""
    folder = make("evaluation.test_images=1", "attack=none")["report"][0]
    strict = json.loads((folder / "summary.json").read_text(), parse_constant=pytest.fail)
    assert strict["subspaces"]["path"]["metrics"]["test_loss"]["barrier_se"] is None
    summary = jsonfile.read(folder / "summary.json")
    assert math.isnan(summary["subspaces"]["path"]["metrics"]["test_loss"]["barrier_se"])
    terminal.print_results([("one", summary)], [], {})


def test_a_number_over_several_networks_that_has_no_value_is_told() -> None:
    numbers = {"clean": math.nan, "gap": 0.5, "gap_se": math.nan, "note": "nan"}
    assert _unknown({"gradients": numbers}) == ["gradients: clean has no value on these images"]


def test_images_that_are_all_alike_are_refused() -> None:
    part = LabelledImages(torch.full((6, 1, 4, 4), 7, dtype=torch.uint8), torch.arange(6) % 2)
    with pytest.raises(InputError, match="all 6 images of the data are alike"):
        spec_of(RawDataset({"all": part}, ("a", "b")))
    part.images[3, 0, 1, 1] = 8
    assert spec_of(RawDataset({"all": part}, ("a", "b"))).mean == [pytest.approx(7 / 255, abs=1e-4)]


def test_a_fit_that_diverges_ends_the_command_in_one_line(tmp_path: Path) -> None:
    done = mcr("report", *TINY, "fit.optimizer.lr=1e9", "fit.epochs=2", folder=tmp_path)
    assert done.returncode == 2
    *_, last = done.stderr.strip().splitlines()
    assert last.startswith("mcr: ")
    assert "Traceback" not in done.stderr
    assert "learning rate" in last


def test_a_training_that_ended_early_is_told_at_the_head_of_the_report(make) -> None:
    words = ["training.epochs=12", "endpoints.end.patience=1", "dataset.noise=2.0", "optimizer.lr=0.3"]
    made = make(*words, "training.min_accuracy_over_chance=0")
    history = (made["train end"][0] / "history.csv").read_text().splitlines()
    assert len(history) < 13  # it did end early
    said = json.loads((made["train end"][0] / "training.json").read_text())["stopped"]
    summary = json.loads((made["report"][0] / "summary.json").read_text())
    assert [line for line in summary["warnings"] if "ended early" in line] == [f"train end ended early: {said}"]
    head = (made["report"][0] / "report.md").read_text().split("## ")[0]
    assert f"> **Warning:** train end ended early: {said}." in head


@pytest.mark.parametrize("label", ["train start", "connect path"])
def test_every_training_below_a_report_may_say_that_it_ended_early(label: str, make) -> None:
    made = make(goal="connect")
    (made[label][0] / "training.json").write_text(json.dumps({"stopped": "nothing was left to learn", "warnings": []}))
    sealed(made[label][0])
    summary = json.loads((make()["report"][0] / "summary.json").read_text())
    assert f"{label} ended early: nothing was left to learn" in summary["warnings"]


def test_a_quiet_report_warns_of_nothing(make, config: Callable[..., dict[str, Any]]) -> None:
    summary = json.loads((make("attack=none")["report"][0] / "summary.json").read_text())
    assert summary["warnings"] == []


def test_the_worst_place_inside_is_found_though_an_end_is_worse(tmp_path: Path) -> None:
    metrics = [{"name": "robust_loss", "better": "lower"}, {"name": "robust_accuracy", "better": "higher"}]
    means = {"robust_loss": [9.0, 1.0, 3.0, 2.0, 5.0], "robust_accuracy": [0.1, 0.9, 0.5, 0.3, 0.2]}
    (tmp_path / "measure.json").write_text(json.dumps({"metrics": metrics, "means": means}))
    shares = [[1, 0], [0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0, 1]]
    # Of a loss the highest value inside, of an accuracy the lowest.
    for metric, place in (("robust_loss", 2), ("robust_accuracy", 3)):
        assert worst.asked({"at": "worst", "worst": metric}, shares, {"worst": tmp_path}) == [0, place, 4]

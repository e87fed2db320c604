"""What a report says of stronger attacks, of correlations and of points asked together; from a configuration to it."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mcr.attacks.pgd import Pgd
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.evaluation.bootstrap import Bootstrap, correlations
from mcr.evaluation.measured import Measure, Measured
from mcr.evaluation.summary import Grid
from mcr.metric import Metric
from mcr.numerics.seeding import generator
from mcr.plans import measures, pipeline
from mcr.probes.ensemble import EnsembleRisk
from mcr.probes.gradient_similarity import GradientSimilarity
from mcr.probes.input_curvature import InputCurvature
from mcr.probes.robust_risk import robust_accuracy
from mcr.probes.transfer import Transfer
from mcr.reports import robustness
from mcr.reports.together import together_figure
from mcr.stages import artifacts, checks, model
from mcr.weightspace import files
from tests.conftest import TINY, TOGETHER, Made
from tests.reading import rows as table

# --- warnings ---


def row(at: str, attack: str, reported: float, stronger: float, error: float) -> dict[str, Any]:
    advantage = reported - stronger
    numbers = {"images": 40, "reported": reported, "stronger": stronger, "advantage": advantage, "advantage_se": error}
    return {"at": at, "attack": attack, **numbers}


def handed_on(advantage: float, error: float) -> dict[str, dict[str, Any]]:
    told = {"advantage": advantage, "advantage_se": error, "at": "0.25", "mean_off_diagonal": 0.5}
    return {"gradients": {"clean": 0.3}, "transfer": told}


def test_there_is_no_warning_where_the_stronger_attack_is_within_one_standard_error() -> None:
    assert robustness.warnings([], {}) == []
    within = [row("0.00", "longer", 0.5, 0.45, 0.06), row("0.50", "longer", 0.5, 0.6, 0.0)]
    assert robustness.warnings(within, {}) == []
    assert robustness.warnings([row("0.00", "longer", 0.5, 0.5, 0.0)], {}) == []
    assert robustness.warnings([], handed_on(0.1, 0.1)) == []
    assert robustness.warnings([], {"gradients": {"clean": 0.3}}) == []


def test_a_warning_names_the_attack_and_the_point_where_it_is_worst() -> None:
    rows = [
        row("0.00", "longer", 0.5, 0.43, 0.06),
        row("0.00", "square", 0.5, 0.48, 0.06),
        row("0.30", "longer", 0.6, 0.421, 0.05),
        row("1.00", "longer", 0.6, 0.58, 0.05),
    ]
    (line,) = robustness.warnings(rows, {})
    for words in ("2 of 3 points", "at 0.30", "the attack longer leaves", "42.1 %", "60.0 %", "40 images"):
        assert words in line
    assert "square" not in line


def test_a_warning_names_the_point_that_another_point_s_images_break() -> None:
    (line,) = robustness.warnings([], handed_on(0.123, 0.122))
    for words in ("at 0.25", "12.3 points", "white-box"):
        assert words in line
    both = robustness.warnings([row("0.50", "longer", 0.6, 0.2, 0.05)], handed_on(0.123, 0.122))
    assert len(both) == 2
    assert both[1] == line


def test_warnings_stand_out() -> None:
    (line,) = robustness.warning_lines(robustness.warnings([row("0.50", "longer", 0.612, 0.398, 0.043)], {}))
    assert line.startswith("> **Warning:** at 1 of 1 points")


# --- sections and figures ---


def test_the_section_of_stronger_attacks_holds_every_one() -> None:
    text = robustness.stronger_section(
        [row("0.50", "longer", 0.612, 0.598, 0.043), row("1.00", "square", 0.5, 0.321, 0.1)]
    )
    assert text.startswith("## Is the attack masked?")
    for words in ("0.50", "longer", "61.2 ± 4.3", "59.8", "40 images", "1.00", "square", "50.0 ± 10.0", "32.1"):
        assert words in text


def test_the_section_of_correlations_holds_both_with_their_intervals() -> None:
    numbers = {"pearson": 0.912, "pearson_low": 0.801, "pearson_high": 0.977}
    numbers |= {"spearman": 0.654, "spearman_low": -0.321, "spearman_high": 0.888}
    found = {"robust_loss_and_input_eigenvalue": numbers}
    counts = {"robust_loss": {"probe": "robust", "images": 40, "data": "test"}}
    counts |= {"input_eigenvalue": {"probe": "input", "images": 16, "data": "test"}}
    text = robustness.correlation_section(found, counts)
    assert "Images: robust 40, input 16 (test split)." in text
    for words in ("robust loss and input eigenvalue", "Pearson 0.912 [0.801, 0.977]", "0.654 [-0.321, 0.888]"):
        assert words in text
    # In the panel of the second metric, about the first.
    assert robustness.correlation_note(found, "input_eigenvalue") == "Pearson with robust loss 0.91"
    assert robustness.correlation_note(found, "robust_loss") == ""
    assert robustness.correlation_note({}, "input_eigenvalue") == ""


def grid(*t: float) -> Grid:
    places = np.array(t)[:, None]
    return Grid(("t",), places, np.hstack([1 - places, places]), ("start", "end"), places[:, 0])


def together(name: str, metrics: tuple[Metric, ...], images: int, told: dict[str, Any], **values: Any) -> Measure:
    """Answers of a probe of several networks: the means, spread over images."""
    found = {f"{name}_{key}": np.stack([np.asarray(mean)] * images, -1) for key, mean in values.items()}
    metrics = tuple(metric.of(name) for metric in metrics)
    return Measure(metrics, grid(0.0, 0.25, 1.0), ({}, {}, {}), found, {}, images, told, "test")


TRANSFER = together(
    "transfer",
    Transfer.metrics,
    37,
    {"advantage": 0.1, "advantage_se": 0.2, "at": "0.25", "mean_off_diagonal": 0.5},
    loss=np.ones((3, 3)),
    accuracy=[[0.111, 0.222, 0.333], [0.444, 0.555, 0.666], [0.777, 0.888, 0.999]],
)
ENSEMBLE = together(
    "ensemble",
    EnsembleRisk.metrics,
    37,
    {"clean_accuracy": 0.987, "robust_accuracy": 0.432, "best_single": 0.401, "gain": 0.031, "gain_se": 0.012},
    clean_accuracy=0.987,
    robust_loss=1.0,
    robust_accuracy=0.432,
    single_accuracy=[0.111, 0.401, 0.333],
)
GRADIENTS = together(
    "gradients",
    GradientSimilarity.metrics,
    37,
    {"clean": 0.3},
    clean=[[1.0, 0.612, -0.113], [0.612, 1.0, 0.499], [-0.113, 0.499, 1.0]],
)


def test_the_section_of_points_together_holds_all_numbers() -> None:
    text = robustness.together_section("transfer", TRANSFER)
    assert text.startswith("## Transfer\n")
    for words in ("37 images, 3 points", "transfer accuracy %", "11.1", "66.6", "99.9", "0.25", "mean off diagonal"):
        assert words in text
    text = robustness.together_section("ensemble", ENSEMBLE)
    for words in ("single accuracy", "11.1", "40.1", "33.3", "0.987", "0.432", "0.031", "0.012"):
        assert words in text
    text = robustness.together_section("gradients", GRADIENTS)
    for words in ("0.612", "-0.113", "0.499"):
        assert words in text


def test_the_figure_of_points_together_has_a_panel_for_each_metric_with_a_label() -> None:
    figure = together_figure({"transfer": TRANSFER, "ensemble": ENSEMBLE, "gradients": GRADIENTS})
    matrix, single, similar, *bars = figure.axes
    assert len(bars) == 2
    assert [float(text.get_text()) for text in matrix.texts] == [11, 22, 33, 44, 56, 67, 78, 89, 100]
    assert single.lines[0].get_ydata().tolist() == pytest.approx([11.1, 40.1, 33.3])
    assert single.lines[1].get_ydata()[0] == pytest.approx(43.2)
    assert single.get_legend() is not None
    assert single.get_xlabel() == "t"
    assert [float(text.get_text()) for text in similar.texts] == [1, 0.61, -0.11, 0.61, 1, 0.5, -0.11, 0.5, 1]
    assert [label.get_text() for label in matrix.get_xticklabels()] == ["0.00", "0.25", "1.00"]
    assert len(together_figure({"gradients": GRADIENTS}).axes) == 2


# --- what is read of measures ---


def test_a_stronger_attack_is_compared_with_the_reported_one_on_the_same_images_at_its_own_places() -> None:
    """The stronger attacks look at fewer images and at some of the places."""
    hits = np.array([[1, 1, 0, 1, 0], [1, 0, 0, 1, 1], [0, 0, 1, 1, 1], [1, 1, 1, 1, 0]], dtype=float)
    after = {"longer": np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0]]), "square": np.array([[1, 1, 1]] * 3)}
    reported = Metric("robust_accuracy", "share", "higher", "accuracy")
    own = Measure((reported,), grid(0.0, 0.25, 0.5, 1.0), ({},) * 4, {reported.name: hits}, {}, 5, {}, "test")
    others = tuple(Metric(f"stronger_{name}_accuracy", "share", "higher", "") for name in after)
    values = {metric.name: found.astype(float) for metric, found in zip(others, after.values(), strict=True)}
    probed = Measure(others, grid(0.0, 0.5, 1.0), ({},) * 3, values, {}, 3, {}, "test")
    found = robustness.stronger(Measured("curve", {"robust": own, "stronger": probed}), "stronger", "robust_accuracy")
    assert [(line["at"], line["attack"]) for line in found] == [
        (at, attack) for at in ("0.00", "0.50", "1.00") for attack in ("longer", "square")
    ]
    kept = {"0.00": hits[0, :3], "0.50": hits[2, :3], "1.00": hits[3, :3]}
    for line in found:
        before, index = kept[line["at"]], list(kept).index(line["at"])
        assert line["images"] == 3
        assert line["reported"] == pytest.approx(before.mean())
        assert line["stronger"] == pytest.approx(after[line["attack"]][index].mean())
        assert line["advantage"] == pytest.approx(line["reported"] - line["stronger"])
        assert line["advantage_se"] == pytest.approx(before.std(ddof=1) / math.sqrt(3))


def test_pairs_that_are_not_both_known_are_not_correlated() -> None:
    values = {name: np.random.default_rng(index).random((4, 9)) for index, name in enumerate(("a_loss", "b_loss"))}
    metrics = tuple(Metric(name, "nats", "lower", "") for name in values)
    one = Measured("curve", {"any": Measure(metrics, grid(0, 0.2, 0.7, 1), ({},) * 4, values, {}, 9, {}, "test")})
    bootstrap = Bootstrap(50, 0.9)
    found = robustness.correlated(one, [["a_loss", "b_loss"], ["a_loss", "nothing"]], bootstrap)
    assert found == {"a_loss_and_b_loss": correlations(values["a_loss"], values["b_loss"], bootstrap)}


# --- from a configuration to the report ---

Run = Callable[..., Made]
TRAINED = ("training.epochs=12", "dataset.split.train=64", "optimizer.lr=0.1", "dataset.noise=0.1")
GROUP = ("transfer", "ensemble", "gradients")
QUIET = ("probes.stronger.images=0", "evaluation.group_images=0", "evaluation.hessian_images=0")


class Smooth(nn.Module):
    """A network with curvature of its own."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.GELU(), nn.Linear(8, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Gates(Smooth):
    """Torch has no second derivative of its hard sigmoid."""

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.layers[:2](images)
        return self.layers[3](hidden * functional.hardsigmoid(hidden.mean(1, keepdim=True)))


class Own(torch.autograd.Function):
    """x + x^3, in a function that is differentiable once."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x + x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient * (1 + 3 * ctx.saved_tensors[0] ** 2)


class Kernel(Smooth):
    def forward(self, images: Tensor) -> Tensor:
        return self.layers[3](Own.apply(self.layers[:2](images)))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def run(make: Run, store: Path) -> Run:
    """A tiny job whose store the tests of this file share, so that ends are trained once."""

    def go(*words: str, goal: str = "report", tiny: bool = True) -> Made:
        return make(f"paths.store={store}", "report.formats=[png]", *words, goal=goal, tiny=tiny)

    return go


def read(made: Made, label: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((made[label][0] / name).read_text())
    return found


def per_image(made: Made, probe: str) -> dict[str, Tensor]:
    return files.load(made[f"measure {probe}"][0] / "per_image.safetensors")


def planned(cfg: dict[str, Any]) -> dict[str, str]:
    return {stage.label: stage.key for stage in pipeline.ordered(pipeline.plan(cfg)["report"])}


def test_a_path_is_attacked_again_and_its_points_asked_together_and_its_report_says_so(run: Run, config) -> None:
    words = (*TRAINED, "attack.eps=0.1", "attack.step_size=0.03", "attack.steps=3")
    words = (*words, "probes.stronger.images=12", "evaluation.group_images=16")
    made, cfg = run(*words), config(*words)
    folder = made["report"][0]
    text, summary = (folder / "report.md").read_text(), read(made, "report", "summary.json")
    for head in ("Is the attack masked?", "Correlations", "Transfer", "Ensemble", "Gradients"):
        assert text.count(f"## {head}\n") == 1
    assert (folder / "together.png").is_file()
    assert "(together.png)" in text
    assert summary["warnings"] == robustness.warnings(summary["stronger"], summary["together"])
    told = {probe: read(made, f"measure {probe}", "measure.json") for probe in ("stronger", "robust", *GROUP)}
    assert summary["together"] == {probe: told[probe]["statistics"] for probe in GROUP}
    # Stronger attacks: both ends and the worst inner point, the reported numbers on the same images.
    inner = summary["subspaces"]["path"]["metrics"]["robust_loss"]["interior_t"]
    rows, hits = summary["stronger"], per_image(made, "robust")["robust_accuracy"][:, :12]
    assert [line["at"] for line in rows] == ["0.00", f"{inner:.2f}", "1.00"]
    for line, own in zip(rows, hits, strict=True):
        assert (line["attack"], line["images"]) == ("longer", 12)
        assert line["reported"] == pytest.approx(float(own.mean()))
        assert line["advantage"] == pytest.approx(line["reported"] - line["stronger"])
        assert line["advantage_se"] == pytest.approx(float(own.std() / math.sqrt(12)))
    # Together: on the diagonal the white-box numbers of the same images and random starts.
    losses, handed = per_image(made, "robust")["robust_loss"], per_image(made, "transfer")["transfer_loss"]
    assert handed.shape == (3, 3, 16)
    for index in range(3):
        assert float(handed[index, index].mean()) == pytest.approx(float(losses[index].mean()), rel=1e-4)
    similar = per_image(made, "gradients")["gradients_clean"]
    torch.testing.assert_close(similar.diagonal().T, torch.ones(3, 16))
    # The curvature, and at t = 0 the start network alone.
    assert set(summary["subspaces"]["path"]["correlations"]) == {
        "robust_loss_and_input_eigenvalue",
        "robust_loss_and_input_gradient_norm",
    }
    network = model.make(cfg, artifacts.read_spec(made["data"][0]), "any")
    network.load_state_dict(artifacts.read_network(made["train start"][0]))
    inputs = {"data": made["data"][0], "split": made["split"][0]}
    part = artifacts.read_split(inputs, "test", "cpu", 12)
    few = EvaluationBatches(part.images[:4], part.labels[:4], 4, "contiguous")
    alone, measured = InputCurvature(32)(network, few, torch.Generator()), per_image(made, "input")
    for name in ("eigenvalue", "gradient_norm"):
        torch.testing.assert_close(measured[f"input_{name}"][0], alone[name], rtol=1e-4, atol=1e-6)
    attack = Pgd(eps=0.1, step_size=0.03, steps=2, norm="linf", start="random", restarts=1)
    batches = EvaluationBatches(part.images, part.labels, 12, "contiguous")
    again = robust_accuracy(network, batches, attack, generator(cfg["evaluation"]["seed"], "stronger"), "fp32")
    assert rows[0]["stronger"] == pytest.approx(float(again.mean()))


def test_without_an_attack_nothing_attacks_but_curvature_and_similarity_are_asked(run: Run) -> None:
    """And a smooth network's curvature is by Lanczos, with its residual."""
    words = [word for word in TINY if not word.startswith("architecture")]
    here = "architecture._target_=tests.test_robustness_report.Smooth"
    made = run(*words, here, "attack=none", "evaluation.hessian_images=5", TOGETHER, tiny=False)
    assert {label for label in made if label.startswith("measure") and "straight" not in label} == {
        f"measure {probe}" for probe in ("train", "test", "input", "gradients")
    }
    text, summary = (made["report"][0] / "report.md").read_text(), read(made, "report", "summary.json")
    assert "Is the attack masked?" not in text
    assert "## Gradients" in text
    assert set(summary["together"]) == {"gradients"}
    assert summary["warnings"] == summary["stronger"] == []
    assert min(line["input_eigenvalue"] for line in table(made)) > 0
    assert not any(name.startswith("robust") for name in table(made)[0])
    residuals = per_image(made, "input")["input_residual"]
    assert residuals.shape == (3, 5)
    assert 0 < residuals.max() < 1e-4
    found = summary["subspaces"]["path"]
    assert found["correlations"] == {}
    assert "input_residual" not in found["metrics"]  # it is neither good nor bad
    relative = per_image(made, "input")["input_relative_residual"]
    said = f"by Lanczos; the largest residual |Hv - λv| is {residuals.max():.1e}, relative to |λ| {relative.max():.1e} "
    assert f"- input, 5 images: {said}" in text


@pytest.mark.parametrize(
    ("network", "method", "said"),
    [("Gates", 1, "by Lanczos; the"), ("Kernel", 2, "by Lanczos on differences of the gr")],
)
def test_a_network_without_second_derivatives_has_its_curvature_all_the_same(network, method, said, run: Run) -> None:
    words = [word for word in TINY if not word.startswith("architecture")]
    here = f"architecture._target_=tests.test_robustness_report.{network}"
    made = run(*words, here, "attack=none", "evaluation.hessian_images=5", tiny=False)
    assert f"- input, 5 images: {said}" in (made["report"][0] / "report.md").read_text()
    for row in table(made):
        assert row["input_method"] == method
        assert row["input_eigenvalue"] > 0
        assert row["input_relative_residual"] < 1e-3


def changed(cfg: dict[str, Any], *changes: tuple[str, Any]) -> dict[str, Any]:
    """A copy of a configuration with other values."""
    found = copy.deepcopy(cfg)
    for place, value in changes:
        *folders, name = place.split(".")
        part = found
        for folder in folders:
            part = part[folder]
        part[name] = value
    return found


def test_zero_images_leave_a_question_out(config) -> None:
    cfg = config(TOGETHER)
    full = planned(cfg)
    for probe in ("stronger", *GROUP):
        found = planned(changed(cfg, (f"probes.{probe}.images", 0)))
        assert set(full) - set(found) == {f"measure {probe}"}
        assert {label for label in found if found[label] != full[label]} == {"report"}
    nobody = planned(changed(cfg, ("attack", {})))
    assert {f"measure {probe}" for probe in ("robust", "stronger", "transfer", "ensemble")} <= set(full) - set(nobody)
    assert "measure stronger" not in planned(changed(cfg, ("probes.stronger.attacks", {})))


def test_what_one_probe_is_asked_does_not_change_the_keys_of_the_others(config) -> None:
    cfg = config(TOGETHER)
    full = planned(cfg)
    robust = {"measure robust", "measure robust straight"}
    cases: list[tuple[str, Any, set[str]]] = [
        ("probes.stronger.images", 3, {"measure stronger"}),
        ("probes.stronger.attacks.longer.steps", 7, {"measure stronger"}),
        ("probes.stronger.attacks.more", {"_target_": "mcr.attacks.fgsm.Fgsm"}, {"measure stronger"}),
        ("probes.transfer.images", 3, {"measure transfer"}),
        ("probes.transfer.at", [0.2], {"measure transfer"}),
        ("probes.input.images", 3, {"measure input", "measure input straight"}),
        # Where the path is worst under the reported attack is where the stronger ones look.
        ("probes.robust.attack", {"steps": 3}, {*robust, "measure stronger"}),
        ("attack.steps", 3, {*robust, "measure stronger", "measure transfer", "measure ensemble"}),
    ]
    for place, value, moved in cases:
        found = planned(changed(cfg, (place, value)))
        assert {label for label in full if found[label] != full[label]} == {"report", *moved}, place


def test_a_stronger_attack_stays_in_the_ball_of_the_reported_one() -> None:
    reported = {"_target_": "mcr.attacks.pgd.Pgd", "eps": 0.1, "norm": "l2", "step_size": 0.03, "steps": 2}
    chosen = {"_target_": "mcr.attacks.pgd.Pgd", "steps": 9, "eps": 9.0, "start": "random", "restarts": 3}
    assert measures.stronger(reported, chosen) == {**chosen, "eps": 0.1, "norm": "l2", "step_size": 0.03}
    assert measures.stronger(reported, {**chosen, "step_size": 0.5})["step_size"] == 0.5
    fgsm = {"_target_": "mcr.attacks.fgsm.Fgsm", "eps": 0.1, "norm": "linf"}
    assert measures.stronger(fgsm, chosen)["step_size"] == pytest.approx(2.5 * 0.1 / 9)
    # The rate of Adam is no length of a step in the ball.
    rate = {"_target_": "mcr.attacks.carlini_wagner.CarliniWagner", "eps": 0.5, "norm": "l2", "step_size": 0.01}
    assert measures.stronger(rate, chosen)["step_size"] == pytest.approx(2.5 * 0.5 / 9)
    other = {"_target_": "mcr.attacks.square.Square", "eps": 1, "norm": "linf", "queries": 5}
    assert measures.stronger(reported, other) == {**other, "eps": 0.1, "norm": "l2"}


def test_a_backdoor_s_triggered_images_are_compared_with_the_same_ones_without(run: Run) -> None:
    made = run("ends=backdoored", "attack=none", "evaluation.group_images=12", goal="evaluate")
    values, told = per_image(made, "triggered"), read(made, "measure triggered", "measure.json")["statistics"]
    clean, triggered = values["triggered_clean"], values["triggered_triggered"]
    assert clean.shape == triggered.shape
    assert 0 < clean.shape[2] <= 12
    assert set(told) == {"clean", "triggered", "gap", "gap_se"}
    assert told["gap"] == pytest.approx(told["clean"] - told["triggered"], abs=1e-6)
    assert told["gap_se"] > 0
    inner = torch.stack([clean[0, 1], clean[2, 1]]).double().mean()
    assert told["clean"] == pytest.approx(float(inner))
    assert not torch.equal(clean[0, 1], triggered[0, 1])


NO_ATTACK_AT_ALL = tuple(f"+probes.robust.attack.{word}" for word in ("steps=1", "step_size=0", "start=zero"))


def test_an_attack_that_does_nothing_is_found_out(run: Run) -> None:
    more = "probes.stronger.attacks.more"
    stronger = (f"+attack@{more}=pgd", f"{more}.steps=10", f"{more}.step_size=0.3", "probes.stronger.images=16")
    made = run(*TRAINED, *NO_ATTACK_AT_ALL, *stronger, "attack.eps=0.3", "evaluation.group_images=0")
    summary = read(made, "report", "summary.json")
    rows = summary["stronger"]
    assert {line["attack"] for line in rows} == {"longer", "more"}
    robust, clean = per_image(made, "robust")["robust_accuracy"], per_image(made, "test")["test_accuracy"]
    assert torch.equal(robust, clean[:, :16])
    (line,) = summary["warnings"]
    worst = max(rows, key=lambda line: line["advantage"])
    assert worst["attack"] == "more"
    assert worst["advantage"] > 0.3
    assert f"the attack more leaves {100 * worst['stronger']:.1f} %" in line
    assert f"at {worst['at']} the attack more" in line
    assert f"> **Warning:** {line}." in (made["report"][0] / "report.md").read_text()


def test_the_same_images_are_compared(run: Run) -> None:
    """Neither attack does anything, so that on the same images neither is better."""
    idle = "probes.stronger.attacks.idle"
    words = (f"+attack@{idle}=pgd", f"{idle}.steps=1", f"{idle}.start=zero", f"{idle}.step_size=0")
    words = (*words, "evaluation.group_images=0", "evaluation.robust_images=5", "probes.stronger.images=16")
    made = run(*TRAINED, *NO_ATTACK_AT_ALL, *words)
    rows = [line for line in read(made, "report", "summary.json")["stronger"] if line["attack"] == "idle"]
    assert [(line["images"], line["advantage"]) for line in rows] == [(5, 0.0)] * 3


def claim(**changes: object) -> str:
    parts = {"source": "E18", "quantity": "robust_loss.mean", "relation": "<", "value": 0.0, "standard_errors": 0}
    told = ",".join(f"{name}:{json.dumps(value)}" for name, value in {**parts, **changes}.items())
    return f"{{{told}}}"


def test_a_robust_path_is_judged_against_the_regular_connection(run: Run) -> None:
    claims = [claim(against="regular", value=value) for value in (0.0, -1e6, 1e6)]
    claims += [claim(value=1e6), claim(quantity="stronger.advantage", relation="<=", value=1.0)]
    claims += [claim(of="regular", value=1e6), claim(quantity="stronger.advantage", against="regular")]
    claims += [claim(quantity="nothing.here")]
    words = ("objective=adversarial", "+reference@references.regular=regular", "attack.eps=0.1", "fit.epochs=3")
    made = run(*words, f"claims=[{','.join(claims)}]")
    text, summary = (made["report"][0] / "report.md").read_text(), read(made, "report", "summary.json")
    assert {name: one["label"] for name, one in summary["subspaces"].items()} == {
        "path": "curve",
        "straight": "straight line",
        "regular": "regular connection",
    }
    assert "## Regular connection" in text
    assert "| regular connection |" in text
    ours, theirs = (summary["subspaces"][name]["metrics"]["robust_loss"]["mean"] for name in ("path", "regular"))
    assert ours != theirs
    judged = summary["claims"]
    assert len(judged) == 6  # what the reference lacks, or nobody measured, is not judged
    for one, value in zip(judged[:3], (0.0, -1e6, 1e6), strict=True):
        assert one["measured"] == pytest.approx(ours - theirs)
        assert one["held"] == (ours - theirs < value)
        assert one["statement"].endswith(", less that of the regular connection")
    assert judged[3]["measured"] == pytest.approx(ours)
    assert "less that" not in judged[3]["statement"]
    assert judged[4]["measured"] == max(line["advantage"] for line in summary["stronger"])
    assert judged[5]["measured"] == pytest.approx(theirs)
    assert judged[5]["statement"].startswith("regular connection: ")
    assert "## Claims" in text


def test_a_quiet_report_has_no_sections_of_what_was_not_asked_but_judges_against_the_straight_line(run: Run) -> None:
    made = run(*QUIET, f"claims=[{claim(quantity='test_loss.max', against='straight')}]")
    folder = made["report"][0]
    text, summary = (folder / "report.md").read_text(), read(made, "report", "summary.json")
    for head in ("Is the attack masked?", "Correlations", "Transfer", "together.png"):
        assert head not in text
    assert {path.name for path in folder.iterdir()} == {
        *("stage.json", "figure.png", "path.csv", "straight.csv", "barriers.csv", "ends.csv"),
        *("report.md", "summary.json"),
    }
    assert "input_eigenvalue" not in table(made)[0]
    assert (summary["stronger"], summary["together"]) == ([], {})
    ours, straight = (summary["subspaces"][name] for name in ("path", "straight"))
    assert ours["correlations"] == {}
    difference = ours["metrics"]["test_loss"]["max"] - straight["metrics"]["test_loss"]["max"]
    assert summary["claims"][0]["measured"] == pytest.approx(difference)
    assert summary["claims"][0]["statement"].endswith(", less that of the straight line")


def test_a_reference_that_is_the_path_itself_is_none_and_nothing_is_judged_against_it(run: Run) -> None:
    told = [claim(quantity="test_loss.max", against="straight"), claim(quantity="test_loss.max", value=1e6)]
    made = run(*QUIET, f"claims=[{','.join(told)}]", "curve=linear")
    summary = read(made, "report", "summary.json")
    assert set(summary["subspaces"]) == {"path"}
    (judged,) = summary["claims"]
    assert judged["measured"] == summary["subspaces"]["path"]["metrics"]["test_loss"]["max"]
    assert "less that" not in judged["statement"]


def test_a_difference_has_no_standard_error_which_is_said_before_anything_is_computed(config) -> None:
    told = f"claims=[{claim(quantity='robust_loss.interior', against='straight', standard_errors=2)}]"
    (stage,) = pipeline.plan(config(*QUIET, told))["report"]
    with pytest.raises(InputError, match="no standard error"):
        checks.check(stage)

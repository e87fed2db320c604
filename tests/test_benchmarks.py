"""The straightforward forms do the same job as ours; a ratio between two different jobs would mean nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from torch import nn

import benchmarks
from benchmarks import __main__ as command
from benchmarks import overlays, paired, peaks, subject, training_step
from benchmarks.reference import path_point as published
from benchmarks.reference import training
from benchmarks.reference.loading import loader
from benchmarks.reference.pgd import pgd, robust_loss
from benchmarks.reference.power_iteration import power_iteration
from mcr.attacks.frozen import frozen
from mcr.attacks.pgd import Pgd
from mcr.datasets.batches import EvaluationBatches
from mcr.numerics.losses import cross_entropy
from mcr.numerics.seeding import generator
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.probes.input_hessian import exact
from mcr.probes.risk import risk
from mcr.probes.robust_risk import robust_risk
from mcr.weightspace import batchnorm


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 5))
    return nn.Sequential(*layers).eval()


IMAGES = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(16) % 5


def test_the_textbook_attack_is_ours(network) -> None:
    torch.manual_seed(0)
    theirs = pgd(network, IMAGES, LABELS, 0.1, 0.02, 10)
    assert float((theirs - IMAGES).abs().max()) <= 0.1 + 1e-6
    losses, _ = robust_loss(network, IMAGES, LABELS, 0.1, 0.02, 10)
    ours = Pgd(eps=0.1, step_size=0.02, steps=10, norm="linf", start="random", restarts=1)
    found = robust_risk(network, [(IMAGES, LABELS)], ours, generator(0), "fp32", 0)
    # Other random starts: the mean loss agrees, not every image.
    assert float(losses.mean()) == pytest.approx(float(found.losses.mean()), rel=0.01)


def test_power_iteration_finds_the_exact_eigenvalue(network) -> None:
    with frozen(network.double()):
        truth = exact(network, IMAGES.double(), LABELS).eigenvalue
        found = power_iteration(network, IMAGES.double(), LABELS, 200)
    torch.testing.assert_close(found, truth, rtol=1e-3, atol=1e-9)


def twins(name: str = "small_vgg") -> tuple[nn.Module, nn.Module]:
    """The same network twice, in the textbook's layout and in ours."""
    return subject.network(name), subject.network(name).to(memory_format=torch.channels_last)


def wide_images() -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = subject.images(16)
    return images.double(), labels


def flat(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def assert_same_move(begin: torch.Tensor, one: torch.Tensor, other: torch.Tensor) -> None:
    assert one.dtype == other.dtype == torch.float64
    assert (one - other).norm() < 1e-9 * (one - begin).norm()


def test_the_textbook_s_step_is_ours() -> None:
    theirs, ours = (network.double() for network in twins())
    images, labels = wide_images()
    loss = training.step(theirs, training_step.sgd(theirs.parameters()), images, labels)
    module = training_step.plain("small_vgg", CrossEntropy())
    module.network = ours
    optimizer = training_step.sgd(ours.parameters())
    found = module.training_step((images, labels), 0)
    found.backward()
    optimizer.step()
    assert float(found.detach()) == pytest.approx(loss, rel=1e-12)
    begin, *after = (flat(one.parameters()) for one in (subject.network("small_vgg").double(), theirs, ours))
    assert_same_move(begin, *after)


def test_the_textbook_s_step_on_a_curve_is_ours(monkeypatch) -> None:
    images, labels = wide_images()
    module = training_step.curve("small_vgg", CrossEntropy()).double()
    module.on_train_start()  # again: the parameters are others
    place = torch.tensor([0.3], dtype=torch.float64)
    monkeypatch.setattr(type(module.curve), "sample", lambda self, draw: place)
    with torch.no_grad():
        module.control[0][0].copy_((module.fixed[0] + module.fixed[1]) / 2)  # it was computed in float32
    begin = module.points()[1].clone()
    optimizer = training_step.sgd(module.learning())
    module.training_step((images, labels), 0).backward()
    module.update(optimizer)

    ends = (dict(subject.network("small_vgg", seed).double().named_parameters()) for seed in (1, 2))
    detached = ({name: value.detach() for name, value in end.items()} for end in ends)
    path = training.BezierCurve(subject.network("small_vgg").double(), *detached)
    training.curve_step(path, training_step.sgd(path.parameters()), images, labels, 0.3, training_step.DECAY)
    middle = {name.replace("/", "."): value.detach() for name, value in path.middle.items()}
    assert_same_move(begin, module.layout.pack(middle), module.points()[1])


def test_the_textbook_s_adversarial_step_is_one_on_attacked_images() -> None:
    network, _ = twins()
    images, labels = subject.images(8)
    attacked: list[torch.Tensor] = []

    def spy(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if module.training:
            attacked.append(inputs[0].detach())

    network.register_forward_pre_hook(spy)
    with torch.no_grad():
        clean = float(cross_entropy(network.eval()(images), labels).mean())
    training.adversarial_step(network, training_step.sgd(network.parameters()), images, labels, 0.1, 0.02, 5)
    (points,) = attacked
    assert 0 < float((points - images).abs().max()) <= 0.1 + 1e-6
    with torch.no_grad():
        assert float(cross_entropy(twins()[0].eval()(points), labels).mean()) > clean


def test_the_published_procedure_gives_our_numbers() -> None:
    theirs, ours = twins()
    pixels, labels = subject.pixels(48)
    batches = EvaluationBatches(pixels, labels, 16, "channels_last")
    published.refresh(theirs, batches)
    batchnorm.refresh(ours, [images for images, _ in batches])
    for name, value in theirs.state_dict().items():
        if "running" in name:
            # torch's own sums over channels_last batches are this far off.
            torch.testing.assert_close(value, ours.state_dict()[name], rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        loss, accuracy = published.risk(theirs, batches)
    losses, hits = risk(ours, batches)
    assert float(losses.mean()) == pytest.approx(loss, rel=1e-4)
    assert float(hits.mean()) == pytest.approx(accuracy)


def test_the_loaders_bring_the_same_images() -> None:
    pixels, labels = subject.pixels(20)
    for (theirs, targets), (ours, own) in zip(
        loader(pixels, labels, augmented=False, batch_size=8, workers=0),
        EvaluationBatches(pixels, labels, 8, "contiguous"),
        strict=True,
    ):
        torch.testing.assert_close(theirs, ours)
        assert torch.equal(targets, own)
    (augmented, _) = next(iter(loader(pixels, labels, augmented=True, batch_size=20, workers=0)))
    assert augmented.shape == (20, 3, 32, 32)
    assert augmented.dtype == torch.float32


@pytest.mark.slow
def test_operations_are_counted() -> None:
    conv, images = nn.Conv2d(3, 5, 3, padding=1), torch.rand(2, 3, 8, 8, requires_grad=True)
    forward = 2 * 2 * 5 * 8 * 8 * 3 * 9
    assert peaks.work(lambda: conv(images)).operations == forward
    assert peaks.work(lambda: torch.autograd.grad(conv(images).sum(), images)).operations == 2 * forward
    # Images, kernels, biases, result; a view moves nothing.
    assert peaks.work(lambda: conv(images)).moved == 4 * (2 * 3 * 64 + 5 * 3 * 9 + 5 + 2 * 5 * 64)
    assert peaks.work(lambda: images.permute(0, 2, 3, 1)).moved == 0
    facts = peaks.floors({"job": (lambda: conv(images), torch.float32)})
    assert facts["work, job"].startswith(f"{forward / 1e9:.1f} GFLOP, ")


def test_overlays_count_every_training_once() -> None:
    """Three pairs of two kinds of ends: four networks and three paths, each fitted once."""
    found = overlays.epochs("zhao2020_fig4_barrier", 50_000)
    assert set(found) == {"endpoint", "adversarial endpoint", "curve"}
    assert found["endpoint"] == found["adversarial endpoint"] > 0
    assert found["curve"] % 3 == 0


def test_forms_take_turns_and_ratios_are_of_the_same_turn(monkeypatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(paired.gc, "collect", lambda: None)  # of all that the tests before have left
    forms = {"one": lambda: calls.append("one"), "two": lambda: calls.append("two")}
    times = paired.timed(forms, repeats=3)
    assert calls == ["one", "two"] * 4
    assert {name: len(values) for name, values in times.items()} == {"one": 3, "two": 3}
    calls.clear()
    paired.timed(forms, repeats=1, warmups=0)
    assert calls == ["one", "two"]
    calls.clear()
    paired.timed({"one": paired.Usual(forms["one"]), "two": forms["two"]}, repeats=2, warmups=0)
    assert calls == ["one", "one", "two", "two"] * 2  # what comes first after a change of settings is not timed
    row = paired.ratio({"fast": [1.0, 2.0, 9.0], "slow": [2.0, 8.0, 10.0]}, "fast", "slow", 0.5)
    assert row.value == (0.5, 0.25, 0.9)
    assert row.verdict == "reached"
    assert row.shown == "0.500 [0.250, 0.900]"


def test_results_are_written_and_summed_up(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(paired, "RESULTS", tmp_path / "results")
    rows = [
        paired.Row("quick", "of slow", (0.2, 0.1, 0.3), 0.5),
        paired.Row("told", "s", (1.0, 1.0, 1.0)),
        paired.Row("missed one", "s", (2.0, 2.0, 2.0), 1.0, "why"),
    ]
    paired.publish("trial", "A trial.", rows, {"loss": 1}, {"quick": [0.5]})
    found = json.loads((tmp_path / "results" / "trial.json").read_text())
    assert [row["verdict"] for row in found["rows"]] == ["reached", "", "missed"]
    assert found["facts"] == {"ms, quick": "500.0", "loss": 1}
    assert "cores" in found["machine"]
    assert "| quick |" in (tmp_path / "results" / "trial.md").read_text()
    assert "| quick |" in capsys.readouterr().out
    paired.summarize(["trial"])
    summary = (tmp_path / "results" / "README.md").read_text()
    assert "1 of 2 reached" in summary
    assert "| missed one | s | 2.000 | 1 | missed | why |" in summary
    assert "told" not in summary
    assert [row["job"] for row in json.loads((tmp_path / "results" / "summary.json").read_text())["trial"]["rows"]] == [
        "quick",
        "missed one",
    ]


def test_every_benchmark_is_run_by_the_command_and_has_its_results(capsys) -> None:
    folder = Path(benchmarks.__file__).parent
    shared = {"__init__", "__main__", "paired", "peaks", "subject", "overlays"}
    modules = {path.stem for path in folder.glob("*.py")} - shared
    assert modules == {*command.NAMES, *command.GPU_NAMES}
    summary = json.loads((folder / "results" / "summary.json").read_text())
    for name in command.NAMES:
        assert {"json", "md"} == {path.suffix[1:] for path in (folder / "results").glob(f"{name}.*")}
        assert name in summary
    assert command.main(["nothing"]) == 2
    assert "there is no nothing" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_without_a_gpu_its_benchmark_says_so(capsys) -> None:
    assert command.main(["gpu"]) == 2
    assert "needs a CUDA device" in capsys.readouterr().err

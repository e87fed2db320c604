"""The straightforward forms do the same job as ours; a ratio between two different jobs would mean nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import benchmarks
from benchmarks import __main__ as command
from benchmarks import paired
from benchmarks.reference.pgd import pgd, robust_loss
from benchmarks.reference.power_iteration import power_iteration
from mcr.attacks.frozen import frozen
from mcr.attacks.pgd import Pgd
from mcr.probes.input_hessian import exact
from mcr.probes.robust_risk import robust_risk
from mcr.seeding import generator


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


def test_the_first_form_is_what_the_others_are_compared_with(tmp_path: Path, monkeypatch, capsys) -> None:
    calls: list[str] = []
    forms = {"one": lambda: calls.append("one"), "two": lambda: calls.append("two")}
    rows = paired.paired(forms, {"two": 1e9}, repeats=3)
    assert calls == ["one", "two"] * 4
    assert rows[0].ratio == (1.0, 1.0, 1.0)
    assert [row.verdict for row in rows] == ["", "reached"]
    monkeypatch.setattr(paired, "RESULTS", tmp_path / "results")
    paired.publish("trial", "A trial.", rows, {"loss": 1})
    found = json.loads((tmp_path / "results" / "trial.json").read_text())
    assert found["rows"][1]["verdict"] == "reached"
    assert "cores" in found["machine"]
    assert "| two |" in (tmp_path / "results" / "trial.md").read_text()
    assert "| two |" in capsys.readouterr().out


def test_every_benchmark_is_run_by_the_command_and_has_its_results(capsys) -> None:
    folder = Path(benchmarks.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__", "paired", "subject"}
    assert modules == set(command.NAMES)
    for name in command.NAMES:
        assert {"json", "md"} == {path.suffix[1:] for path in (folder / "results").glob(f"{name}.*")}
    assert command.main(["nothing"]) == 2
    assert "there is no nothing" in capsys.readouterr().err

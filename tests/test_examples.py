"""The examples and the notebook run as they are, write what they say, and find what they are there to show."""

from __future__ import annotations

import ast
import json
import runpy
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
FIGURES = {
    "torchvision_path": ["torchvision_path.png"],
    "robust_barrier": ["robust_barrier.png"],
    "repair_a_file": [],
    "surface_of_four": ["surface_of_four_bilinear.png", "surface_of_four_bezier_surface.png"],
}
MOST_CALLS = 25  # of this package


def interior(found: Any, metric: str) -> float:
    return float(found.summary()[metric]["interior"])


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_an_example_needs_few_lines(name: str) -> None:
    tree = ast.parse((EXAMPLES / f"{name}.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    ours = {call.lineno for call in calls if isinstance(call.func, ast.Attribute) and "mcr" in ast.unparse(call.func)}
    assert 3 <= len(ours) <= MOST_CALLS


@pytest.fixture
def ran(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What is there after an example has run."""
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(EXAMPLES / f"{request.param}.py"))
    assert sorted(path.name for path in tmp_path.glob("*.png")) == sorted(FIGURES[request.param])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("ran", ["torchvision_path"], indirect=True)
def test_the_curve_between_torchvision_networks_avoids_the_barrier(ran) -> None:
    assert interior(ran["straight"], "risk_loss") > 1
    assert interior(ran["curved"], "risk_loss") < 0.5 * interior(ran["straight"], "risk_loss")
    assert not ran["middle"].training


@pytest.mark.slow
@pytest.mark.parametrize("ran", ["robust_barrier"], indirect=True)
def test_the_robust_barrier_is_there_and_a_fit_under_attack_takes_it_away(ran) -> None:
    clean, under_attack = ran["found"].values()
    error = clean.summary()["robust_loss"]["interior_se"]
    assert interior(clean, "robust_loss") > 2 * error
    assert interior(under_attack, "robust_loss") < interior(clean, "robust_loss") - 2 * error


@pytest.mark.slow
@pytest.mark.parametrize("ran", ["surface_of_four"], indirect=True)
def test_the_surface_lies_below_the_flat_patch(ran) -> None:
    assert ran["table"].table.coordinates == ("u", "v")
    assert ran["table"].measured.grid.ends == ("north", "east", "south", "west")
    inside = [ran["mcr"].measure(ran[name], ran["data"]["test"], ["risk"], at=3) for name in ("flat", "surface")]
    assert interior(inside[1], "risk_loss") < interior(inside[0], "risk_loss")


@pytest.mark.slow
@pytest.mark.parametrize("ran", ["repair_a_file"], indirect=True)
def test_the_repair_keeps_the_accuracy_and_changes_the_network(ran, capsys) -> None:
    networks = list(ran["found"].values())
    right = [(one(ran["test"].images / 255).argmax(1) == ran["test"].labels).double().mean() for one in networks]
    assert min(right) > right[0] - 0.1
    assert all((networks[0][1].weight != one[1].weight).any() for one in networks[1:])


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((EXAMPLES / "first_path.ipynb").read_text())
    namespace: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []  # none is committed
            exec("".join(cell["source"]), namespace)
    assert interior(namespace["curved"], "risk_loss") < interior(namespace["straight"], "risk_loss")
    assert namespace["figure"].axes

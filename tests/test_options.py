"""What ``mcr list`` says of experiments."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mcr.app import cli
from mcr.app.composition import conf_folder
from mcr.app.experiments import Experiment
from mcr.errors import InputError

EXPERIMENTS = sorted((conf_folder() / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_says_what_it_is_what_runs_it_and_what_it_costs(path: Path) -> None:
    found = Experiment.read(path)
    assert re.match(r"[A-Z][a-z]+ et al\. \(\d{4}\)|Repairs side by side", found.sentence), "whose work it is"
    assert found.command.startswith(("mcr experiment=", "mcr repair experiment="))
    assert f"experiment={path.stem}" in found.command
    assert found.cost in ("minutes on a CPU", "hours on a CPU", "a GPU")
    assert found.claims
    # What costs a GPU asks for one.
    whole = "".join(one.read_text(encoding="utf-8") for one in EXPERIMENTS if one.stem == path.stem)
    assert found.cost != "a GPU" or "runtime: cpu" not in whole


def test_claims_are_counted_and_named_and_inherited(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.dispatch(["list", "experiment"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= 80
    at = lines.index("zhao2020_fig4_barrier_digits")
    block = [line for line in lines[at + 1 : at + 6] if line.startswith("  ")]
    assert "scikit-learn's digits: three pairs of ends" in " ".join(block)
    assert "  mcr experiment=zhao2020_fig4_barrier_digits" in block
    # The claims of the experiment that it is a form of; two of four are parts of one.
    assert block[-1] == "  minutes on a CPU; 4 claims: E15, E16, E17"


def test_an_experiment_of_a_users_folder_needs_no_comments(tmp_path: Path, capsys) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\n# Only [mine].\nreplicate: 3\n")
    (tmp_path / "experiment" / "bare.yaml").write_text("# @package _global_\n")
    assert cli.dispatch(["list", "experiment", "--config-dir", str(tmp_path)]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    at = lines.index("mine")
    assert lines[at + 1 : at + 3] == ["  Only [mine].", "  0 claims"]
    assert lines[lines.index("bare") + 1] == "  0 claims"


@pytest.mark.parametrize("flag", ["--config-name", "--config-path"])
def test_a_view_refuses_another_configuration(flag: str) -> None:
    with pytest.raises(InputError, match="--config-dir DIR adds groups"):
        cli.dispatch(["list", flag, "other", "attack"])

"""An offline W&B run, read back."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from mcr.errors import InputError
from mcr.evaluation.table import Table
from mcr.metric import Metric
from mcr.stages.context import Context
from mcr.stages.loggers import log_report, wandb_run
from mcr.store.stage import Stage
from tests.conftest import TOGETHER, carried_out
from tests.reading import rows
from tests.wandb_reader import Run, read, text


def runs(folder: Path) -> list[Run]:
    return [read(path) for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))]


@pytest.fixture
def wandb_words(monkeypatch, tmp_path: Path) -> list[str]:
    for name in ("API_KEY", "MODE", "DIR", "PROJECT", "ENTITY", "DATA_DIR", "CACHE_DIR", "CONFIG_DIR"):
        name = f"WANDB_{name}"
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return ["logger=wandb", "training.epochs=3"]


def test_training_path_table_figures_and_barriers_are_in_the_run(make, wandb_words, tmp_path: Path) -> None:
    made = make(*wandb_words, TOGETHER)
    found = {run.id: run for run in runs(tmp_path / "run")}
    logged = ("train start", "train end", "connect path", "report")
    assert set(found) == {made[label][0].name for label in logged}
    assert {run.group for run in found.values()} == {"tests"}
    assert {run.exit_code for run in found.values()} == {0}

    train = found[made["train start"][0].name]
    assert train.job_type == "train"
    told = [row for row in train.history if "train/loss" in row]
    assert len(told) == 3
    assert all({"train/accuracy", "train/learning_rate"} <= set(row) for row in told)
    assert any("validation/accuracy" in row for row in train.history)
    assert found[made["connect path"][0].name].job_type == "connect"

    path, folder = found[made["report"][0].name], made["report"][0]
    assert path.job_type == "report"
    points, table = [row for row in path.history if "path/t" in row], rows(made)
    assert [row["path/t"] for row in points] == [row["t"] for row in table]
    assert {"test_loss", "robust_accuracy", "input_eigenvalue", "arc_length", "distance_to_end"} <= set(table[0])
    for name in table[0]:
        assert [row[f"path/{name}"] for row in points] == pytest.approx([row[name] for row in table])
        assert path.steps[f"path/{name}"] == ("" if name == "t" else "path/t")
    last = next(row for row in path.history if "path/table/nrows" in row)
    assert last["path/table/nrows"] == len(table)
    for figure in ("figure", "together"):
        assert last[f"path/{figure}/_type"] == "image-file"
    summary = json.loads((folder / "summary.json").read_text())["subspaces"]["path"]
    for metric, values in (summary["metrics"] | summary["correlations"]).items():
        for statistic, value in values.items():
            told = path.summary.get(f"{metric}/{statistic}")
            assert told == (None if value is None else pytest.approx(value))
    assert not list((tmp_path / "home").rglob("*wandb*"))
    assert not list(tmp_path.rglob("staging/*"))


def test_nothing_of_the_machine_goes_with_a_run(make, wandb_words, tmp_path: Path, monkeypatch) -> None:
    """No home folder, user, host, command line, or place of the run: whatever a run file holds, it may be sent."""
    monkeypatch.setattr(sys, "argv", ["mcr", "dataset.root=/secret/of/mine", f"hydra.run.dir={tmp_path}"])
    monkeypatch.setattr(getpass, "getuser", lambda: "some-user-of-mine")
    monkeypatch.setenv("USER", "some-user-of-mine")
    monkeypatch.setattr(socket, "gethostname", lambda: "some-host-of-mine")
    make(*wandb_words, TOGETHER)
    hidden = ["/secret/of/mine", "some-user-of-mine", "some-host-of-mine", str(tmp_path), sys.prefix]
    hidden += [str(Path(__file__).parents[1]), str(Path.home()), os.uname().nodename]
    found = sorted((tmp_path / "run").glob("wandb/offline-run-*/run-*.wandb"))
    assert len(found) == 4
    for path in found:
        assert read(path).id
        sent = [text(path), *(one.read_text() for one in path.parent.rglob("files/**/*.json"))]
        sent += [path.read_text() for path in path.parent.rglob("files/**/*.yaml")]
        # As a word: the ids of W&B are random letters.
        assert [word for word in hidden for one in sent if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", one)] == []


@pytest.mark.parametrize("asked", ["option", "variable"])
def test_wandb_that_is_disabled_leaves_no_file(asked, config, wandb_words, tmp_path: Path, monkeypatch) -> None:
    if asked == "variable":
        monkeypatch.setenv("WANDB_MODE", "disabled")
    cfg = config(*wandb_words, *(["logger.mode=disabled"] if asked == "option" else []))
    assert (cfg["logger"]["kind"], cfg["logger"]["mode"]) == ("wandb", "disabled")
    carried_out(cfg | {"verb": "train"}, "train", tmp_path)
    assert not (tmp_path / "run").exists()


def test_wandb_s_own_variables_are_followed_where_no_option_is_given(
    config, wandb_words, tmp_path, monkeypatch
) -> None:
    for name, value in (("PROJECT", "mine"), ("ENTITY", "us"), ("DIR", str(tmp_path / "scratch"))):
        monkeypatch.setenv(f"WANDB_{name}", value)
    told = config(*wandb_words)["logger"]
    assert [told[name] for name in ("project", "entity", "mode")] == ["mine", "us", "offline"]
    assert config(*wandb_words, "logger.project=other", "logger.entity=null")["logger"]["entity"] is None
    assert config(*wandb_words, "logger.project=other")["logger"]["project"] == "other"
    context = Context({"devices": 1, "accelerator": "cpu"}, told, "tests", tmp_path / "run")
    with wandb_run(Stage("train", 1, {}, {}, "train a"), context):
        pass
    (run,) = runs(tmp_path / "scratch")
    assert (run.project, run.entity) == ("mine", "us")
    assert not (tmp_path / "run").exists()


def test_what_is_logged_of_a_surface_is_what_its_table_holds(wandb_words, tmp_path: Path) -> None:
    """A metric that nobody has heard of, over two coordinates."""
    odd = Metric("odd_charm", "share", "higher", "charm")
    places = [(u, v) for u in (0.0, 1.0) for v in (0.0, 0.5, 1.0)]
    told = tuple({"u": u, "v": v, "odd_charm": u * (1 - v) + 0.25} for u, v in places)
    table = Table(("u", "v"), (odd,), told, frozenset())
    logger = {"kind": "wandb", "project": "mcr", "entity": None, "dir": None, "mode": "offline"}
    context = Context({"devices": 1, "accelerator": "cpu"}, logger, "tests", tmp_path / "run")
    stage = Stage("report", 1, {"title": "a surface"}, {}, "report")
    log_report(stage, context, table, {odd.cost: {"interior": 0.125, "area": np.nan}}, {"figure": Figure()})
    (run,) = runs(tmp_path / "run")
    assert (run.id, run.exit_code) == (stage.key, 0)
    points = [row for row in run.history if "path/u" in row]
    assert [(row["path/u"], row["path/v"], row["path/odd_charm"]) for row in points] == [
        (row["u"], row["v"], row["odd_charm"]) for row in told
    ]
    assert run.summary["lack_of_odd_charm/interior"] == 0.125
    assert next(row for row in run.history if "path/table/nrows" in row)["path/table/nrows"] == 6


def test_nothing_is_logged_twice(make, wandb_words, tmp_path: Path) -> None:
    make(*wandb_words, goal="train")
    before = len(runs(tmp_path / "run"))
    make(*wandb_words, goal="train")
    assert before == len(runs(tmp_path / "run")) == 2


def test_a_failed_job_does_not_swallow_the_next(make, wandb_words, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        make(*wandb_words, "optimizer.lr=1e30", goal="train")
    made = make(*wandb_words, goal="train")
    codes = {run.id: run.exit_code for run in runs(tmp_path / "run")}
    assert codes.pop(made["train start"][0].name) == codes.pop(made["train end"][0].name) == 0
    assert list(codes.values()) == [1]


def test_a_report_alone_is_logged_by_a_process_that_has_drawn_nothing_yet(make, config, tmp_path: Path) -> None:
    """A launcher's worker that finds all else in the store: W&B wants pyplot there, which only Lightning had loaded."""
    make("logger=none", goal="evaluate")
    cfg = config("logger=wandb")
    (tmp_path / "cfg.json").write_text(json.dumps(cfg))
    program = (
        "import json, sys; from pathlib import Path; from mcr.app import run;"
        "assert 'pytorch_lightning' not in sys.modules;"
        "run.carry_out(json.loads(Path('cfg.json').read_text()), Path('alone'), 'tests');"
        "assert 'pytorch_lightning' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "alone" / "figure.png").is_file()

"""An offline W&B run, read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcr.errors import InputError
from tests.reading import rows as table_rows
from tests.wandb_reader import Run, read


def runs(folder: Path) -> list[Run]:
    return [read(path) for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))]


@pytest.fixture
def wandb_words(monkeypatch, tmp_path: Path) -> list[str]:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return ["logger=wandb", "training.epochs=3"]


def test_training_path_table_figure_and_barriers_are_in_the_run(make, wandb_words, tmp_path: Path) -> None:
    made = make(*wandb_words)
    found = {run.id: run for run in runs(tmp_path / "run")}
    # Trainings and the report; what is measured in between is told by the report.
    logged = [label for label in made if label.startswith("train ") or label in ("connect path", "report")]
    assert set(found) == {made[label][0].name for label in logged}
    assert {run.group for run in found.values()} == {"tests"}
    assert {run.exit_code for run in found.values()} == {0}

    train = found[made["train start"][0].name]
    assert train.job_type == "train"
    rows = [row for row in train.history if "train/loss" in row]
    assert len(rows) == 3
    assert all({"train/accuracy", "train/learning_rate"} <= set(row) for row in rows)
    assert any("validation/accuracy" in row for row in train.history)
    assert found[made["connect path"][0].name].job_type == "connect"

    path = found[made["report"][0].name]
    assert path.job_type == "report"
    points = [row for row in path.history if "path/t" in row]
    table = table_rows(made)
    assert [row["path/t"] for row in points] == [row["t"] for row in table]
    for name in set(table[0]) - {"t"}:
        assert [row[f"path/{name}"] for row in points] == pytest.approx([row[name] for row in table])
        assert path.steps[f"path/{name}"] == "path/t"
    last = next(row for row in path.history if "path/table/nrows" in row)
    assert last["path/table/nrows"] == len(table)
    assert last["path/figure/_type"] == last["path/together/_type"] == "image-file"
    summary = json.loads((made["report"][0] / "summary.json").read_text())["subspaces"]["path"]
    for metric, values in {**summary["metrics"], **summary["correlations"]}.items():
        for statistic, value in values.items():
            assert path.summary[f"{metric}/{statistic}"] == pytest.approx(value, nan_ok=True)
    assert not list((tmp_path / "home").rglob("*wandb*"))


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

"""An offline W&B run, read back."""

from __future__ import annotations

import csv
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
import yaml

from mcr.app import logged, published, run
from mcr.errors import InputError
from mcr.evaluation.table import Table
from mcr.loggers import own
from mcr.loggers.job import Job, log_job
from mcr.loggers.place import Place
from mcr.loggers.wandb_run import opened
from mcr.metric import Metric
from tests.conftest import TINY, TOGETHER, carried_out
from tests.processes import fresh
from tests.wandb_reader import Run, read, text

LOGGER = {"kind": "wandb", "project": "mcr", "entity": None, "dir": None, "mode": "offline"}


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


@pytest.fixture
def done(config, tmp_path: Path):
    """Carries out a command in this process, as the launcher of a sweep's job or of a single run does."""

    def go(*words: str, goal: str = "report", job: str = "run") -> Path:
        cfg = config(*words) | {"verb": goal}
        folder = tmp_path / job
        stages = run.carry_out(cfg, folder, "tests")
        logged.log(cfg, list(words), folder, "tests", stages)
        return folder

    return go


def test_a_training_is_a_run_over_epochs(make, wandb_words, tmp_path: Path) -> None:
    made = make(*wandb_words, goal="connect")
    found = {run.id: run for run in runs(tmp_path / "run")}
    assert set(found) == {made[label][0].name for label in ("train start", "train end", "connect path")}
    assert {run.group for run in found.values()} == {"tests"}
    assert {run.exit_code for run in found.values()} == {0}
    train = found[made["train start"][0].name]
    assert (train.job_type, found[made["connect path"][0].name].job_type) == ("train", "connect")
    told = [row for row in train.history if "train/loss" in row]
    assert [row["epoch"] for row in told] == [0, 1, 2]
    assert all({"train/accuracy", "train/learning_rate"} <= set(row) for row in told)
    assert any("validation/accuracy" in row for row in train.history)
    names = {name for row in train.history for name in row if name.startswith(("train/", "validation/"))}
    assert {train.steps[name] for name in names} == {"epoch"}
    assert train.steps["epoch"] == ""


def test_a_job_is_a_run_with_what_was_asked_and_what_was_found(done, wandb_words, tmp_path: Path) -> None:
    folder = done(*wandb_words, TOGETHER, "ends=regular_robust", f"paths.data={tmp_path}")
    path = next(run for run in runs(folder) if run.job_type == "report")
    asked = {"dataset": "synthetic", "architecture": "mlp", "curve": "bezier", "attack": "pgd", "verb": "report"}
    assert {key: path.config[key] for key in asked} == asked
    assert (path.config["ends"], path.config["replicate"]) == ("regular_robust", 0)
    assert path.config["settings"]["training"]["epochs"] == 3
    assert path.config["command"] == f"mcr report {' '.join(wandb_words[1:])} {TOGETHER} ends=regular_robust"
    assert {"synthetic", "mlp", "regular_robust", "bezier", "report"} == set(path.tags)
    linked = {link.name: link.resolve().name for link in (folder / "stages").iterdir()}
    assert {label.replace(" ", "-"): key for label, key in path.config["stages"].items()} == linked
    with (folder / "path.csv").open(newline="") as stream:
        table = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
    points = [row for row in path.history if "path/t" in row]
    assert [row["path/t"] for row in points] == [row["t"] for row in table]
    assert {"test_loss", "robust_accuracy", "input_eigenvalue", "arc_length", "distance_to_end"} <= set(table[0])
    for name in table[0]:
        assert [row[f"path/{name}"] for row in points] == pytest.approx([row[name] for row in table])
        assert path.steps[f"path/{name}"] == ("" if name == "t" else "path/t")
    logged = {key: value for row in path.history for key, value in row.items()}
    assert logged["path/table/nrows"] == len(table)
    assert logged["barriers/nrows"] == len((folder / "barriers.csv").read_text().splitlines()) - 1
    for figure in ("figure", "together"):
        assert logged[f"path/{figure}/_type"] == "image-file"
    spaces = json.loads((folder / "summary.json").read_text())["subspaces"]
    for metric, values in (spaces["path"]["metrics"] | spaces["path"]["correlations"]).items():
        for statistic, value in values.items():
            told = path.summary.get(f"{metric}/{statistic}")
            assert told == (None if value is None else pytest.approx(value))
    straight = spaces["straight"]["metrics"]["robust_loss"]["interior"]
    assert path.summary["straight/robust_loss/interior"] == pytest.approx(straight)
    assert not list((tmp_path / "home").rglob("*wandb*"))
    assert not list(tmp_path.rglob("staging/*"))


@pytest.mark.slow
def test_a_job_of_which_all_was_in_the_store_is_a_run_as_well(done, wandb_words) -> None:
    first = [run for run in runs(done(*wandb_words)) if run.job_type == "report"]
    (second,) = runs(done(*wandb_words, job="again"))
    assert second.id != first[0].id
    assert second.summary["robust_loss/interior"] == first[0].summary["robust_loss/interior"]
    assert second.config["stages"] == first[0].config["stages"]


@pytest.mark.slow
def test_a_repair_is_a_run_with_its_candidates(done, wandb_words) -> None:
    folder = done(*wandb_words, "ends=backdoored", "backdoor.size=2", goal="repair")
    repair = next(run for run in runs(folder) if run.job_type == "repair")
    metrics = json.loads((folder / "summary.json").read_text())["metrics"]
    assert repair.summary["attack_success/after"] == pytest.approx(metrics["attack_success"]["after"])
    logged = {key: value for row in repair.history for key, value in row.items()}
    assert logged["repair/candidates/nrows"] == len((folder / "along.csv").read_text().splitlines()) - 1
    assert logged["repair/figure/_type"] == "image-file"


def test_nothing_of_the_machine_goes_with_a_run(done, wandb_words, tmp_path: Path, monkeypatch) -> None:
    """No home folder, user, host, command line, or place of the run: whatever a run file holds, it may be sent."""
    monkeypatch.setattr(sys, "argv", ["mcr", "dataset.root=/secret/of/mine", f"hydra.run.dir={tmp_path}"])
    monkeypatch.setattr(getpass, "getuser", lambda: "some-user-of-mine")
    monkeypatch.setenv("USER", "some-user-of-mine")
    monkeypatch.setattr(socket, "gethostname", lambda: "some-host-of-mine")
    folder = done(*wandb_words, TOGETHER, f"paths.data={tmp_path}")
    hidden = ["/secret/of/mine", "some-user-of-mine", "some-host-of-mine", str(tmp_path), sys.prefix]
    hidden += [str(Path(__file__).parents[1]), str(Path.home()), os.uname().nodename]
    found = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
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
    with opened(Place(told, "tests", tmp_path / "run"), "a run", "train", {}):
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
    folder = tmp_path / "run"
    folder.mkdir()
    table.write(folder, "path")
    (folder / "barriers.csv").write_text("path,metric\npath,charm\n")
    found = {odd.cost: {"interior": 0.125, "area": np.nan, "interior_se": None}}
    space = {"metrics": found, "correlations": {}, "table": table.describe()}
    job = Job("a surface", "report", {}, (), {}, folder, {"subspaces": {"path": space}, "together": {}})
    log_job(job, Place(LOGGER, "tests", folder))
    (run,) = runs(folder)
    assert run.exit_code == 0
    points = [row for row in run.history if "path/u" in row]
    assert [(row["path/u"], row["path/v"], row["path/odd_charm"]) for row in points] == [
        (row["u"], row["v"], row["odd_charm"]) for row in told
    ]
    assert run.summary["lack_of_odd_charm/interior"] == 0.125
    assert not {"lack_of_odd_charm/area", "lack_of_odd_charm/interior_se"} & set(run.summary)
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
        "assert not {'pytorch_lightning', 'wandb.sdk.launch'} & set(sys.modules)"  # the second takes most of a second
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "alone" / "figure.png").is_file()


@pytest.mark.slow
def test_a_job_that_an_agent_starts_is_the_agent_s_run(tmp_path: Path) -> None:
    """And no training takes its id: within an agent W&B gives every run this one."""
    params = tmp_path / "params.yaml"
    params.write_text("wandb_version: 1\nfit.epochs:\n  value: 1\n")
    agent = {"SWEEP_ID": "one", "RUN_ID": "of-the-agent", "SWEEP_PARAM_PATH": str(params)}
    place = {"HOME": str(tmp_path)}
    done = fresh(*TINY, "logger=wandb", folder=tmp_path, **place, **{f"WANDB_{key}": v for key, v in agent.items()})
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "multirun" / "runs").iterdir()
    (run,) = runs(folder)
    assert (run.id, run.job_type, run.exit_code) == ("of-the-agent", "report", 0)
    assert "robust_loss/interior" in run.summary


UNRELIABLE = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, num_classes, width):
        super().__init__(nn.Flatten(), nn.Linear(64, 2 + width % 2), nn.ReLU(), nn.Linear(2 + width % 2, num_classes))
        if width == 2:
            1 / 0
"""


@pytest.mark.slow
def test_every_job_of_reused_workers_is_a_run_of_its_own_also_one_that_raises(tmp_path: Path) -> None:
    (tmp_path / "my_unreliable.py").write_text(UNRELIABLE)
    words = [word for word in TINY if not word.startswith("architecture")]
    words += ["architecture._target_=my_unreliable.Net", "+architecture.width=1,2,3,4", "logger=wandb"]
    words += ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    done = fresh("-m", *words, folder=tmp_path, PYTHONPATH=os.environ.get("PYTHONPATH", ""), HOME=str(tmp_path))
    assert done.returncode == 1, done.stderr
    (sweep,) = (tmp_path / "multirun" / "sweeps").iterdir()
    found = {job: [one for one in runs(sweep / job) if one.job_type == "report"] for job in "0123"}
    assert {job: [one.exit_code for one in every] for job, every in found.items()} == {
        "0": [0],
        "1": [1],
        "2": [0],
        "3": [0],
    }
    (failed,) = found["1"]
    assert failed.summary["failure"].startswith("ZeroDivisionError")
    assert [found[job][0].config["settings"]["architecture"]["width"] for job in "0123"] == [1, 2, 3, 4]
    (whole,) = runs(sweep)
    assert (whole.job_type, whole.group, whole.config["jobs"], whole.config["failed"]) == ("sweep", sweep.name, 4, 1)
    assert {one.group for every in found.values() for one in every} == {sweep.name}


@pytest.mark.slow
def test_a_dashboard_answers_what_the_mean_barrier_of_each_kind_of_ends_and_curve_is(tmp_path: Path) -> None:
    factors = ["ends=regular_regular,regular_robust", "curve=linear,bezier", "replicate=0,1"]
    done = fresh("-m", *TINY, *factors, "logger=wandb", folder=tmp_path, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "multirun" / "sweeps").iterdir()
    jobs = [one for job in sweep.glob("[0-9]*") for one in runs(job) if one.job_type == "report"]
    groups: dict[tuple[str, str], list[float]] = {}
    for one in jobs:
        key = (one.config["ends"], one.config["curve"])
        groups.setdefault(key, []).append(one.summary["robust_loss/interior"])
    told = json.loads((sweep / "summary.json").read_text())["replicates"]
    assert len(groups) == len(told) == 4
    for (ends, curve), values in groups.items():
        (found,) = [one for name, one in told.items() if ends.replace("_", "-") in name and curve in name]
        assert len(values) == 2
        assert np.mean(values) == pytest.approx(found["robust_loss"]["mean"])
    assert {one.config["replicate"] for one in jobs} == {0, 1}
    (whole,) = runs(sweep)
    logged = {key: value for row in whole.history for key, value in row.items()}
    assert logged["sweep/figure/_type"] == "image-file"
    assert logged["sweep/barriers/nrows"] == len((sweep / "barriers.csv").read_text().splitlines()) - 1


def test_the_sweep_of_wandb_asks_for_a_command_and_a_number_that_are_there(request_for, tmp_path: Path) -> None:
    given = yaml.safe_load((Path(__file__).parents[1] / "examples" / "wandb_sweep.yaml").read_text())
    program, *words = given["command"][1:]
    assert (program, words[-1]) == ("mcr", "${args_no_hyphens}")
    values = {key: part["values"][-1] if "values" in part else part["max"] for key, part in given["parameters"].items()}
    words = [*words[1:-1], *(f"{key}={value}" for key, value in values.items()), f"paths.root={tmp_path}"]
    words += [f"optimized_metric={given['metric']['name'].replace('/', '.')}"]
    run.check(request_for(*(word for word in words if word != "logger.mode=online"), verb="report"))


def test_weights_go_with_a_job_on_request(done, wandb_words, tmp_path: Path) -> None:
    folder = done(*wandb_words, "logger.artifacts=[ends,path]", goal="connect")
    every = folder.glob("wandb/offline-run-*/run-*.wandb")
    (path,) = [one for one in every if "stages" in read(one).config]  # the job's, not the training's
    said = text(path)
    keys = {link.name: link.resolve().name for link in (folder / "stages").iterdir()}
    for label in ("train-start", "train-end", "connect-path"):
        assert f"{label}-{keys[label]}" in said
    assert not list(tmp_path.rglob("staging/*"))


def test_a_logger_of_lightning_s_or_of_the_user_s_gets_curves_and_barriers(config, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "my_loggers.py").write_text(OWN_LOGGER)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["logger=tensorboard", "~logger.name", "training.epochs=2", "logger._target_=my_loggers.Kept"]
    with pytest.raises(InputError, match=r"plugins=\[my_loggers\]"):
        _carried(config(*words), tmp_path / "refused")
    _carried(config(*words, "plugins=[my_loggers]"), tmp_path / "own")
    kept = json.loads((tmp_path / "own" / "kept.json").read_text())
    found = json.loads((tmp_path / "own" / "summary.json").read_text())["subspaces"]["path"]["metrics"]
    (training,) = [version for version in kept if version.startswith("train-start-")]
    assert [row["train/loss"] for row in kept[training]["rows"] if "train/loss" in row] != []
    assert kept[training]["status"] == kept["job"]["status"] == "success"
    assert kept["job"]["rows"][0]["robust_loss/interior"] == found["robust_loss"]["interior"]
    assert kept["job"]["asked"]["dataset"] == "synthetic"


def test_tensorboard_has_the_curves_of_trainings_and_the_barriers_of_the_job(config, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _carried(config("logger=tensorboard", "training.epochs=2"), tmp_path / "run")
    found = {}
    for folder in (tmp_path / "run" / "tensorboard").iterdir():
        read_back = EventAccumulator(str(folder))
        read_back.Reload()
        found[folder.name.rsplit("-", 1)[0]] = {
            tag: [one.value for one in read_back.Scalars(tag)] for tag in read_back.Tags()["scalars"]
        }
    assert set(found) == {"train-start", "train-end", "connect-path", "job"}
    assert len(found["train-start"]["train/loss"]) == 2
    rise = json.loads((tmp_path / "run" / "summary.json").read_text())["subspaces"]["path"]["metrics"]["robust_loss"]
    assert found["job"]["robust_loss/interior"] == pytest.approx([rise["interior"]])


def test_a_logger_whose_package_is_not_there_says_which(config, tmp_path: Path, monkeypatch) -> None:
    for name in ("_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"):
        monkeypatch.setattr(f"lightning_fabric.loggers.tensorboard.{name}", False)
    place = Place(config("logger=tensorboard")["logger"], "tests", tmp_path)
    said = "TensorBoardLogger needs a package that is not installed: .*tensorboard"
    with pytest.raises(InputError, match=said), own.opened(place, "job"):
        pass


def test_a_logger_hears_that_what_it_logs_has_failed(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "my_loggers.py").write_text(OWN_LOGGER)
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = {"kind": "lightning", "_target_": "my_loggers.Kept", "save_dir": None, "version": None, "_source_": "x"}
    with pytest.raises(ZeroDivisionError), own.opened(Place(settings, "tests", tmp_path), "job"):
        _ = 1 / 0
    assert json.loads((tmp_path / "kept.json").read_text())["job"]["status"] == "failed"


def test_no_place_of_the_machine_is_published(config) -> None:
    place = "/secret/of/mine"
    cfg = config("ends=backdoored", "backdoor.size=2")
    cfg |= {"dataset": {**cfg["dataset"], "root": place, "nested": {"path": place, "kept": 1}}}
    words = [
        f"dataset.root={place}",
        f"+endpoints.start.path={place}",
        f"paths.root={place}",
        "logger.entity=us",
        "a=1",
    ]
    told = published.asked(cfg, words)
    assert place not in json.dumps(told)
    assert told["settings"]["dataset"]["nested"] == {"kept": 1}
    assert told["command"] == "mcr report a=1"
    assert not {"paths", "logger", "runtime"} & set(told["settings"])


def _carried(cfg, folder: Path) -> None:
    logged.log(cfg, [], folder, "tests", run.carry_out(cfg | {"verb": "report"}, folder, "tests"))


OWN_LOGGER = """
import json
from pathlib import Path

from pytorch_lightning.loggers import Logger


class Kept(Logger):
    def __init__(self, save_dir, version):
        super().__init__()
        self.path, self.of = Path(save_dir) / "kept.json", version
        self.kept = {"rows": [], "asked": {}}

    name = property(lambda self: "kept")
    version = property(lambda self: self.of)

    def log_hyperparams(self, params, *args, **kwargs):
        self.kept["asked"] = {"dataset": params["dataset"]}

    def log_metrics(self, metrics, step=None):
        self.kept["rows"].append(dict(metrics))

    def finalize(self, status):
        found = json.loads(self.path.read_text()) if self.path.is_file() else {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(found | {self.of: {**self.kept, "status": status}}))
"""

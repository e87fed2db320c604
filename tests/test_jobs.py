"""Folders of jobs: reported together later, with what failed, was killed or never began."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from pytorch_lightning.utilities.exceptions import SIGTERMException

from mcr.app import cli, failure, jobs, run
from mcr.errors import InputError
from tests.conftest import TINY, carried_out
from tests.processes import environment, mcr

Job = Callable[..., Path]


@pytest.fixture
def job(config, tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Writes the folder of a job as a command leaves it: finished unless it is said how it ended."""
    monkeypatch.chdir(tmp_path)

    def write(place: str, *asked: str, failure: str = "", killed: bool = False) -> Path:
        folder = Path(place)
        (folder / ".hydra").mkdir(parents=True)
        (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([*asked, "verb=report"]))
        if failure:
            (folder / "failure.txt").write_text(failure)
        if failure or killed:
            return folder
        cfg = config(*TINY, "logger=none", *asked, f"paths.root={shared}") | {"verb": "report"}
        (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(cfg))
        report = carried_out(cfg, "report", tmp_path)["report"][0]
        for path in report.iterdir():
            if path.name != "stage.json":
                shutil.copyfile(path, folder / path.name)
        (folder / "stages").mkdir()
        (folder / "stages" / "report").symlink_to(report)
        return folder

    return write


def reported(*words: str) -> tuple[int, str, dict]:
    """The exit status of ``mcr report WORDS``, what it reports and its summary."""
    status = cli.dispatch(["report", *words, "hydra.sweep.dir=joint"])
    return status, (Path("joint") / "report.md").read_text(), json.loads((Path("joint") / "summary.json").read_text())


def test_several_sweeps_are_reported_together_under_labels_of_all(job: Job) -> None:
    job("one/0", "optimizer.lr=0.02")
    job("two/0", "optimizer.lr=0.03")
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    status, text, summary = reported("one", "two")
    assert status == 0
    assert text.startswith("# lr=0.02; lr=0.03\n")
    assert [one["name"] for one in summary["jobs"]] == ["lr=0.02", "lr=0.03"]
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert {path.parts[0] for path in Path().rglob("*") if path.is_file()} - {"joint"} == {"one", "two"}


def test_a_survivor_keeps_its_label_beside_a_failed_a_killed_job_and_one_never_begun(job: Job) -> None:
    job("sweep/0", "optimizer.lr=0.02")
    job("sweep/1", "optimizer.lr=1e30", failure="InputError\nthe loss is not finite\n\n\n")
    job("sweep/2", "optimizer.lr=7", killed=True)
    job("sweep/3", "optimizer.lr=8", failure="Unfinished\ndid not finish: its process was killed or interrupted\n\n\n")
    status, text, summary = reported("sweep")
    assert status == 1
    assert [one["name"] for one in summary["jobs"]] == ["lr=0.02"]
    assert "| lr=0.02 | test loss |" in " ".join(text.split())
    failed = [(one["job"], one["name"], one["reason"]) for one in summary["failed"]]
    assert failed == [
        ("1", "lr=1e30", "the loss is not finite"),
        ("2", "lr=7", "was not begun"),
        ("3", "lr=8", "did not finish: its process was killed or interrupted"),
    ]
    for number, name, reason in failed:
        assert f"| {number} | {name} | {reason} |" in " ".join(text.split())


def test_where_all_jobs_failed_there_is_a_report_all_the_same(job: Job, capsys: pytest.CaptureFixture) -> None:
    for number, lr in enumerate(("1e30", "1e31")):
        job(f"sweep/{number}", f"optimizer.lr={lr}", failure="InputError\nthe loss is not finite\n\n\n")
    status, text, summary = reported("sweep")
    assert status == 2  # bad input, all of it
    assert text.startswith("# 2 jobs, none of which finished\n")
    assert (summary["jobs"], [one["name"] for one in summary["failed"]]) == ([], ["lr=1e30", "lr=1e31"])
    assert "mcr: job 1 failed: the loss is not finite" in capsys.readouterr().err


def test_the_same_job_twice_is_counted_once_and_a_repeated_failure_is_forgotten(job: Job, capsys) -> None:
    job("one/0", "optimizer.lr=0.02", failure="OSError\nno space left\n\n\n")
    job("one/1", "optimizer.lr=0.03")
    job("two/0", "optimizer.lr=0.02")
    job("two/1", "optimizer.lr=0.03")
    status, _, summary = reported(
        "one",
        "two",
    )
    assert status == 0
    assert [one["name"] for one in summary["jobs"]] == ["lr=0.03", "lr=0.02"]
    assert summary["failed"] == []
    assert "2 of the jobs stand in these folders twice, or were repeated: counted once" in capsys.readouterr().out


def test_a_folder_of_one_job_may_stand_beside_a_sweep(job: Job) -> None:
    job("sweep/0", "curve=linear")
    single = job("runs/2026", "curve=polychain")
    _, _, summary = reported("sweep", str(single))
    assert [one["name"] for one in summary["jobs"]] == ["linear", "polychain"]


def test_what_cannot_be_reported_together_is_refused_in_one_line(job: Job, tmp_path: Path) -> None:
    place = job("sweep/0", "optimizer.lr=0.02")
    other = job("other/0", "optimizer.lr=0.03")
    summary = json.loads((other / "summary.json").read_text())
    (other / "summary.json").write_text(json.dumps(summary | {"kind": "repair"}))
    Path("empty").mkdir()
    for words, expected in (
        (["nowhere"], "nowhere: there is no such folder"),
        (["empty"], "empty holds no job"),
        (["sweep", "replicate=1"], "replicate=1: mcr report FOLDER"),
        (["sweep", "-m"], "-m: mcr report FOLDER"),
        (["sweep", "other"], "paths and cards of repairs"),
    ):
        refused(words, expected)
    (place / "summary.json").write_text('{"title": ')
    refused(["sweep"], "summary.json is damaged")
    assert not Path("joint").exists()


def refused(words: list[str], expected: str) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        cli.dispatch(["report", *words, *([] if any("=" in word for word in words) else ["hydra.sweep.dir=joint"])])
    assert "\n" not in str(caught.value)


def test_jobs_of_a_sweep_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in ("10", "9", "0"):
        (tmp_path / number / ".hydra").mkdir(parents=True)
    assert [one.name for one in jobs.found(tmp_path)] == ["0", "9", "10"]


def light(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The same as ``mcr``, without torch."""
    program = "import sys; from mcr.app import cli\n"
    program += "sys.exit(cli.dispatch(sys.argv[1:]) or 9 * ('torch' in sys.modules))"
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)


@pytest.mark.slow
def test_the_same_command_again_makes_nothing_and_says_the_same(tmp_path: Path) -> None:
    words = ["-m", "curve=linear,bezier", *TINY, "logger=none", "paths.root=tmp"]
    folders, records = [], []
    for name, command in (("once_made", mcr), ("once_again", light)):
        done = command(*words, f"hydra.sweep.dir={name}", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        folders.append(tmp_path / name)
        records.append({path: path.stat().st_mtime_ns for path in (tmp_path / "tmp" / "store").rglob("stage.json")})
        told = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("  report ")]
        assert told == {"once_made": ["made", "made"], "once_again": ["hit", "hit"]}[name]
    assert records[0] == records[1]
    told = []
    for folder in folders:
        files = {file: (folder / file).read_bytes() for file in ("report.md", "barriers.csv", "figure.png")}
        # The command and the date stand below, and under "made" in the summary.
        files["report.md"] = files["report.md"].split(b"## How this was made")[0]
        summary = json.loads((folder / "summary.json").read_text())
        for made in (summary, *summary["jobs"]):
            del made["made"]
        told.append((files, summary))
    assert told[0] == told[1]


@pytest.mark.slow
def test_a_job_that_raises_among_others_is_named_and_the_others_are_right(tmp_path: Path) -> None:
    source = "from torch import nn\n\n\nclass Net(nn.Sequential):\n    def __init__(self, num_classes, width):\n"
    source += "        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, num_classes))\n"
    source += "        self.width = width\n\n    def forward(self, images):\n"
    source += "        if self.width == 3 and len(images) > 2:\n            raise KeyError('boom')\n"
    source += "        return super().forward(images)\n"
    (tmp_path / "my_raising.py").write_text(source)
    words = [word for word in TINY if not word.startswith("architecture")] + ["logger=none", "paths.root=tmp"]
    words += ["architecture._target_=my_raising.Net"]
    done = mcr("-m", *words, "+architecture.width=2,3,4", "hydra.sweep.dir=all", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "mcr: job 1 failed: KeyError: 'boom'" in done.stderr
    summary = json.loads((tmp_path / "all" / "summary.json").read_text())
    assert [(one["job"], one["name"], one["reason"]) for one in summary["failed"]] == [
        ("1", "width=3", "KeyError: 'boom'")
    ]
    assert "width=3" in (tmp_path / "all" / "report.md").read_text()
    alone = mcr(*words, "+architecture.width=4", "hydra.run.dir=alone", "paths.root=other", folder=tmp_path)
    assert alone.returncode == 0, alone.stderr
    found = json.loads((tmp_path / "alone" / "summary.json").read_text())["subspaces"]["path"]["metrics"]
    assert [one["name"] for one in summary["jobs"]] == ["width=2", "width=4"]
    assert summary["jobs"][1]["subspaces"]["path"]["metrics"] == found


@pytest.mark.parametrize("text", ["", "attack: {eps: [1", "verb: report\n"])
def test_a_job_that_was_killed_while_its_settings_were_written_was_not_begun(job: Job, text: str) -> None:
    job("sweep/0", "optimizer.lr=0.02")
    job("sweep/1", "optimizer.lr=0.03", killed=True)
    (Path("sweep") / "1" / ".hydra" / "config.yaml").write_text(text)
    status, _, summary = reported("sweep")
    assert status == 1
    assert [(one["job"], one["reason"]) for one in summary["failed"]] == [("1", "was not begun")]


def test_a_sweep_that_is_interrupted_is_reported_as_far_as_it_came(tmp_path: Path, shared: Path, monkeypatch) -> None:
    """Ctrl-C in the second of three jobs."""
    monkeypatch.chdir(tmp_path)
    started = []
    usual = run.carry_out

    def interrupted(*given):
        started.append(given)
        if len(started) == 2:
            raise KeyboardInterrupt
        return usual(*given)

    monkeypatch.setattr(run, "carry_out", interrupted)
    words = [*TINY, "logger=none", "optimizer.lr=0.02,0.03,0.04", f"paths.store={shared / 'store'}"]
    with pytest.raises(KeyboardInterrupt):
        cli.dispatch(["-m", *words, "hydra.sweep.dir=sweep"])
    summary = json.loads((Path("sweep") / "summary.json").read_text())
    assert [one["name"] for one in summary["jobs"]] == ["lr=0.02"]
    assert [(one["name"], one["reason"]) for one in summary["failed"]] == [
        ("lr=0.03", "did not finish: its process was killed or interrupted"),
        ("lr=0.04", "was not begun"),
    ]


STOPPER = """
import os
import signal
from pathlib import Path

from torch import nn


class Net(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, num_classes))

    def forward(self, images):
        # In the first training, not where the command looks at the network first.
        if len(images) > 2 and Path("armed").exists():
            Path("armed").unlink()
            os.kill(os.getpid(), signal.SIGTERM)
        return super().forward(images)
"""


def test_a_sweep_that_is_told_to_stop_stops(tmp_path: Path) -> None:
    """As a terminal's Ctrl-C, wherever it is: schedulers and ``kill`` send this."""
    (tmp_path / "my_stopper.py").write_text(STOPPER)
    (tmp_path / "armed").touch()
    words = [word for word in TINY if not word.startswith("architecture")]
    words += ["architecture._target_=my_stopper.Net", "optimizer.lr=0.02,0.03", "logger=none", "paths.root=tmp"]
    done = mcr("-m", *words, "hydra.sweep.dir=sweep", folder=tmp_path)
    assert done.returncode == 130, done.stderr
    assert "interrupted; the same command goes on where this one stopped" in done.stderr
    summary = json.loads((tmp_path / "sweep" / "summary.json").read_text())
    assert [one["reason"] for one in summary["failed"]] == [failure.UNFINISHED[1], "was not begun"]


def test_hydra_s_own_way_to_run_something_again_is_refused() -> None:
    with pytest.raises(InputError, match="repeat the command"):
        cli.dispatch(["--experimental-rerun", "some.pickle"])


def test_a_job_that_failed_after_its_report_is_a_failed_job(job: Job) -> None:
    job("sweep/0", "optimizer.lr=0.02")
    (job("sweep/1", "optimizer.lr=0.03") / "failure.txt").write_text("InputError\nW\u0026B: no account\n\n\n")
    status, _, summary = reported("sweep")
    assert status == 2
    assert [one["name"] for one in summary["jobs"]] == ["lr=0.02"]
    assert [(one["name"], one["reason"]) for one in summary["failed"]] == [("lr=0.03", "W&B: no account")]


def test_a_job_that_was_killed_while_it_wrote_that_it_began_is_one_that_was_killed(job: Job) -> None:
    job("sweep/0", "optimizer.lr=0.02")
    (job("sweep/1", "optimizer.lr=0.03", killed=True) / "failure.txt").touch()
    status, _, summary = reported("sweep")
    assert status == 1
    (failed,) = summary["failed"]
    assert failed["job"] == "1"
    assert "its process was killed" in failed["reason"]


def test_a_job_that_ends_while_it_is_looked_at_did_not_fail(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = job("sweep/0", "optimizer.lr=0.02")
    (folder / "failure.txt").write_text("Unfinished\nits process was killed\n\n\n")
    there = Path.is_file

    def ends_then(path: Path) -> bool:
        found = there(path)
        if found and path.name == "failure.txt":
            path.unlink()
        return found

    monkeypatch.setattr(Path, "is_file", ends_then)
    assert jobs.found(folder)[0].failure == (0, "")


def test_a_worker_that_is_told_to_stop_says_that_and_no_line_of_lightning(tmp_path: Path) -> None:
    """A scheduler's worker has no command line whose handler would be asked; Lightning notices after the step."""
    try:
        raise SIGTERMException
    except SIGTERMException as error:
        failure.write(tmp_path, error, foreseen=True)
    assert failure.read(tmp_path) == (1, "was told to stop (SIGTERM); the same command goes on where it stopped")

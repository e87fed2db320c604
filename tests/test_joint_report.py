"""Several jobs: what their ends say of each other, what is marked and noted, and what failed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hydra.types import RunMode
from omegaconf import OmegaConf

from mcr.app import failure, overrides, run, sweep
from mcr.errors import InputError
from mcr.reports import joint, repairs, soundness
from mcr.reports.claims import Verdict
from mcr.reports.soundness import BACKDOOR, Doubt, End, doubts
from tests.conftest import TINY, carried_out
from tests.test_cli import replicates
from tests.test_soundness import CLAIMS, HELD, SETTINGS, end


def networks_of(*shares: float) -> list[dict[str, Any]]:
    return [asdict(end(name, clean=share, robust=share)) for name, share in zip(("start", "end"), shares, strict=False)]


def summary_of(*shares: float, **changes: Any) -> dict[str, Any]:
    """What a job's summary says beside its tables."""
    held = vars(Verdict("E16, a barrier", "robust_loss interior > 0", 1.0, held=True))
    usual = {"networks": networks_of(*shares), "doubts": [], "stopped": [], "warnings": [], "claims": [held]}
    return usual | changes


def test_a_broken_end_without_a_sister_of_its_own_is_found_in_the_other_jobs() -> None:
    """Replicates: each job has one robust end, and one of them broke."""
    summaries = [summary_of(share) for share in (0.84, 0.3, 0.86)]
    one, two, three = joint.jobs(["a", "b", "c"], summaries, SETTINGS)
    assert (one.notes, three.notes) == ([], [])
    (note,) = two.notes
    assert "start lies far below start of c" in note
    assert (one.marked, two.marked) == ("a", "b †")
    assert [v.word for job in (one, two, three) for v in job.verdicts] == ["held", "not tested", "held"]
    (warning,) = two.warnings
    assert warning == f"{note}; claims about this path are not tested"
    assert joint.notes([one, two, three]) == [f"† b: {note}."]
    known = two.known
    assert (known["claims"][0]["untested"], known["doubts"][0]["reason"], known["warnings"]) == (note, note, [warning])
    assert one.known == summaries[0]


def test_a_doubt_that_a_job_has_itself_is_told_once() -> None:
    own = doubts([End.read(one) for one in networks_of(0.84, 0.3)], SETTINGS)
    claim = vars(HELD.without_test([own[0].reason]))
    known = {"doubts": [vars(one) for one in own], "warnings": soundness.warnings(own), "claims": [claim]}
    broken, sound = joint.jobs(["a", "b"], [summary_of(0.84, 0.3, **known), summary_of(0.85, 0.9)], SETTINGS)
    assert len(broken.notes) == len(broken.warnings) == 1
    assert broken.verdicts[0].untested == own[0].reason
    assert sound.notes == []


def test_methods_are_not_set_against_each_other_on_a_network_in_doubt() -> None:
    def job(repair: str, replicate: int, found: list[Doubt]) -> dict[str, Any]:
        metrics = {"attack_success": {"after": 0.0}, "clean_accuracy": {"after": 0.9}}
        known = {"repair": repair, "images": 10, "replicate": replicate, "metrics": metrics}
        return known | {"doubts": [vars(doubt) for doubt in found]}

    planted = [Doubt("start", "the backdoor did not take hold in start", BACKDOOR)]
    summaries = [job(name, replicate, planted * replicate) for name in ("a", "b") for replicate in (0, 1)]
    usual = {"source": "E6", "repair": "a", "against": "b", "relation": "<=", "value": 0.0, "standard_errors": 0}
    claims = [usual | {"quantity": f"{metric}.after"} for metric in ("attack_success", "clean_accuracy")]
    (_, about), (_, other) = repairs.verdicts(["x"] * 4, summaries, claims, 0.95)
    assert about.untested == "replicate 1: the backdoor did not take hold in start"
    assert (about.word, other.word) == ("not tested", "held")


@pytest.fixture
def swept(config, tmp_path: Path) -> Path:
    """A sweep of two finished jobs, one with a training that ended early, and two failed ones."""
    folder = tmp_path / "sweep"
    for number in range(2):
        words = (*TINY, f"replicate={number}", "logger=none", f"claims=[{CLAIMS}]")
        cfg = config(*words)
        place = carried_out(cfg | {"verb": "report"}, "report", tmp_path)["report"][0]
        job = folder / str(number)
        (job / ".hydra").mkdir(parents=True)
        for path in place.iterdir():
            (job / path.name).write_bytes(path.read_bytes())
        (job / ".hydra" / "config.yaml").write_text(yaml.safe_dump(cfg))
        (job / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([f"replicate={number}"]))
    summary = json.loads((folder / "1" / "summary.json").read_text())
    said = "train end ended early: no better accuracy than 0.5 for 2 epochs; epoch 3 is kept"
    summary |= {"stopped": [said], "warnings": [said, *summary["warnings"]]}
    (folder / "1" / "summary.json").write_text(json.dumps(summary))
    for number, text in (
        (2, "RuntimeError\nRuntimeError: boom\n\nTraceback\nsecond line\n"),
        (3, "InputError\na | b\n"),
    ):
        (folder / str(number) / ".hydra").mkdir(parents=True)
        (folder / str(number) / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([f"replicate={number}"]))
        (folder / str(number) / "failure.txt").write_text(text)
    return folder


def test_a_joint_report_marks_what_ended_early_and_lists_what_failed(swept: Path, capsys) -> None:
    assert sweep.finish(swept, replicates(4)) == 1
    text = (swept / "report.md").read_text()
    squeezed = " ".join(text.split())
    assert "> **Warning:** replicate=1: train end ended early: no better accuracy" in text
    assert "| replicate=1 † | test loss |" in squeezed
    assert "| replicate=0 | test loss |" in squeezed
    assert "bezier † | test loss | 2 |" in squeezed  # over replicates
    assert "† replicate=1: train end ended early: no better accuracy" in text
    assert "Images: train 16 (of those fitted on); test 32, robust 16, input 4 (test split)." in text
    assert "| 2 | replicate=2 | RuntimeError: boom |" in squeezed
    assert r"| 3 | replicate=3 | a \| b |" in squeezed
    found = json.loads((swept / "summary.json").read_text(), parse_constant=pytest.fail)
    assert [one["job"] for one in found["failed"]] == ["2", "3"]
    assert [len(job["notes"]) for job in found["jobs"]] == [0, 1]
    said = capsys.readouterr()
    assert "bezier †, 2 seeds" in said.out
    assert "mcr: job 2 failed: RuntimeError: boom\n" in said.err
    records = (swept / "barriers.csv").read_text().splitlines()
    assert records[0].endswith(",images,data,note")
    assert any(line.startswith("replicate=1,test loss") and "ended early" in line for line in records)


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (RuntimeError("boom\nsecond line"), 1, "RuntimeError: boom"),
        (RuntimeError(), 1, "RuntimeError"),
        (KeyError("a"), 1, "KeyError: 'a'"),
        (InputError("wrong, as one line"), 2, "wrong, as one line"),
        (OSError(28, "No space left on device"), 1, "[Errno 28] No space left on device"),
        (RuntimeError("half \ud800"), 1, r"RuntimeError: half \ud800"),
    ],
    ids=["two lines", "nothing said", "a key", "bad input", "a full disk", "half a character"],
)
def test_a_failed_job_is_named_by_the_first_line_of_what_was_said(error, status, reason, tmp_path, monkeypatch) -> None:
    def fail(*_: Any) -> None:
        raise error

    (tmp_path / "0").mkdir()
    swept = SimpleNamespace(output_dir=str(tmp_path / "0"), choices={})
    launcher = SimpleNamespace(_target_="of.BasicLauncher")
    asked = {"overrides": SimpleNamespace(task=[]), "sweep": SimpleNamespace(dir=str(tmp_path))}
    hydra = SimpleNamespace(
        runtime=swept, mode=RunMode.MULTIRUN, job=SimpleNamespace(num=0), launcher=launcher, **asked
    )
    monkeypatch.setattr(run, "HydraConfig", SimpleNamespace(get=lambda: hydra))
    monkeypatch.setattr(run, "carry_out", fail)
    monkeypatch.setattr(overrides, "plain", lambda cfg: {})
    monkeypatch.setattr(overrides, "with_choices", lambda cfg, choices: {"runtime": {"accelerator": "cpu"}})
    logged: list[str] = []
    monkeypatch.setattr(run.logged, "log", lambda cfg, words, folder, group, stages, reason="": logged.append(reason))
    run.job(OmegaConf.create({}))
    assert failure.read(tmp_path / "0") == (status, reason)
    assert logged == [reason]
    told = (tmp_path / "0" / "failure.txt").read_text()
    assert ("second line" in told) == ("second line" in str(error))

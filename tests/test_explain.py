"""What ``mcr explain`` says of settings and of stages of the store."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mcr.app import cli
from mcr.app.composition import conf_folder
from mcr.errors import InputError
from tests.conftest import TINY


@pytest.fixture
def explain(capsys, monkeypatch) -> Callable[..., str]:
    """What is said of some words, in one line."""
    monkeypatch.setenv("COLUMNS", "80")

    def said(*words: object) -> str:
        assert cli.dispatch(["explain", *map(str, words)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        return " ".join(" ".join(lines).split())

    return said


@pytest.mark.parametrize(
    ("key", "comment", "default", "file", "influence"),
    [
        ("training.epochs", "training: all endpoints;", "30", "config", "another value makes train anew"),
        ("attack.eps", "radius in [0, 1] pixel units", "8/255", "attack/pgd", "another value makes measure anew"),
        (
            "endpoints.end.source",
            "endpoint/standard: Regular training",
            "train",
            "endpoint/standard",
            "it decides what",
        ),
        ("fit.images", "of that split, a number or all", "all", "config", "another value makes connect, place anew"),
        ("fit.batch_size", "fit: fitting the path", "64, from ${training.batch_size}", "config", "makes connect anew"),
        ("runtime.devices", "", "1", "runtime/cpu", "makes train, connect anew"),
        ("logger.mode", "offline, online or disabled", "offline, from ${oc.env", "logger/wandb", "not hashed"),
        ("poisoning.ratio", "share of each source class", "0.1", "config", "in no recipe of this configuration"),
        (
            "repair.budget.steps",
            "optimizer steps of each training",
            "2000",
            "config",
            "another value makes train, connect",
        ),
        ("attack", "Projected gradient descent", "_target_, eps", "attack/pgd", "another value makes measure anew"),
    ],
)
def test_a_setting_has_its_comment_default_place_and_influence(
    key: str, comment: str, default: str, file: str, influence: str, explain
) -> None:
    said = explain(key)
    assert said.startswith(f"{key} {comment}")
    assert f"default: {default}" in said
    assert influence in said
    number = int(re.search(rf"stands in conf/{file}\.yaml, line (\d+)", said)[1])
    line = (conf_folder() / f"{file}.yaml").read_text(encoding="utf-8").splitlines()[number - 1]
    assert key.rsplit(".", 1)[-1] in line or number == 1


def test_what_overlays_and_words_change_is_told(explain) -> None:
    said = explain("training.epochs", "experiment=zhao2020_fig4_barrier_digits", "replicate=0")
    assert "here: 40" in said
    assert re.search(
        r"stands in conf/experiment/zhao2020_fig4_barrier_digits\.yaml, line \d+, before that .*, before that "
        r"conf/config\.yaml, line \d+ ",
        said,
    )
    assert "here: none, it has to be given" in explain("dataset.root", "dataset=imagefolder")
    # What nobody chose is in no recipe; with a backdoor it is.
    assert "makes poison anew" in explain("poisoning.ratio", "ends=backdoored", "backdoor=badnets")


def test_a_users_own_option_is_explained(tmp_path: Path, explain) -> None:
    (tmp_path / "attack").mkdir()
    text = (conf_folder() / "attack" / "pgd.yaml").read_text(encoding="utf-8")
    (tmp_path / "attack" / "mine.yaml").write_text(
        re.sub(r"steps: .*", "steps: 3     # few '#' of mine", text, count=1)
    )
    assert "few '#' of mine here: 3" in explain("attack.steps", "attack=mine", "--config-dir", tmp_path)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trainin.epochs"], "there is no setting trainin.epochs; did you mean training.epochs"),
        ([], "explain takes one key"),
        (["training.epochs", "fit.epochs"], "explain takes one key"),
        (["training.epochs", "attack=pdg"], "did you mean pgd"),
        (["training.epochs", "--config-name", "other"], "--config-dir DIR adds groups"),
        (["0123456789ab"], "no stage of .* has a key that begins with 0123456789ab"),
    ],
)
def test_a_mistake_gives_one_line(words: list[str], expected: str) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        cli.dispatch(["explain", *words])
    assert "\n" not in str(caught.value)


def test_a_stage_of_the_store_says_what_it_is(make, tmp_path: Path, explain) -> None:
    folder, _ = make("training.epochs=2", "endpoint@endpoints.end=adversarial", goal="train")["train end"]
    link = tmp_path / "runs" / "one" / "stages" / "train-end"
    link.parent.mkdir(parents=True)
    link.symlink_to(folder)
    root = f"paths.root={tmp_path}"
    said = explain(folder.name[:12], *TINY, root)
    assert said.startswith(f"train {folder.name} called train-end, last in {link.parent.parent}"[:40])
    sizes = sum(path.stat().st_size for path in folder.iterdir() if path.name != "stage.json")
    assert f"size {sizes / 1e6:.1f} MB in 3 files" in said
    assert re.search(r"made \d{4}-\d\d-\d\d \d\d:\d\d in \d+\.\d s, cpu, 1 threads", said)
    assert re.search(r"needs data: data/[0-9a-f]{16}, split: split/[0-9a-f]{16}", said)
    assert "recipe.epochs=2 (1)" in said
    here = explain(folder.name[:6], *TINY, root, "training.epochs=2", "endpoint@endpoints.end=adversarial")
    assert here.endswith("recipe as in the plan of this configuration")
    wrong = f"{folder.name[:11]}{'0' if folder.name[11] != '0' else '1'}"
    with pytest.raises(InputError, match=f"did you mean {folder.name[:12]}"):
        explain(wrong, root)
    (folder / "history.csv").write_text("")
    with pytest.raises(InputError, match=r"is damaged: history\.csv"):
        explain(folder.name, root)

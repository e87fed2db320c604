"""Words of the command line: paths as a file system has them, synonyms, and what nobody foresaw."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from mcr.app import cli, faults, run, shorthands
from mcr.app.synonyms import SYNONYMS, synonym
from mcr.errors import FaultError, InputError
from tests.conftest import TINY
from tests.processes import fresh, mcr

# Names that a file system allows and Hydra's grammar has other meanings for.
NAMES = (
    *(
        "clean images (2)",
        "epoch=3.ckpt",
        "a,b",
        "it's",
        'say "x"',
        "back\\slash",
        "{x}",
        "[y]",
        "50%",
        "#1",
        "Ünï çode",
    ),
    *("a: b", "x;y", "end\\", "tab\there", "1e3", "~tilde", "null.pt", "choice(a)"),
)


def meant(word: str) -> object:
    """What Hydra makes of a word, interpolations resolved."""
    override = OverridesParser.create().parse_override(word)
    assert not override.is_sweep_override()
    return OmegaConf.create({"value": override.value()}).value


@pytest.mark.parametrize("name", [*NAMES, "${x}", "\\${x}"])
def test_a_path_that_is_there_means_itself(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("")
    for key in ("dataset.root", "endpoints.start.path", "paths.root", "hydra.run.dir", "++dataset.root"):
        for swept in (False, True):
            (word,) = shorthands.paths([f"{key}={tmp_path / name}"], swept)
            assert meant(word) == str(tmp_path / name)
    assert shorthands.unquoted(shorthands.quoted(name).replace("\\${", "${")) == name.replace("\\${", "\\\\${")


@pytest.mark.parametrize("name", NAMES)
def test_a_path_that_is_not_there_yet_means_itself(name: str, tmp_path: Path) -> None:
    (word,) = shorthands.paths([f"paths.root={tmp_path / name}"], swept=False)
    assert meant(word) == str(tmp_path / name)


def test_other_words_and_words_with_quotes_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    words = ["attack.eps=8/255", "probes.test.data=a b", "dataset.root='x y'", "paths.root=null", "curve=linear,bezier"]
    assert shorthands.paths(words, swept=True) == words
    assert shorthands.paths(["dataset.root=glob(*)"], swept=True) == ["dataset.root=glob(*)"]
    assert shorthands.paths(["dataset.root=a b,c"], swept=True) == ["dataset.root='a b','c'"]
    assert shorthands.paths(["dataset.root=~/x y"], swept=False) == [f"dataset.root='{tmp_path}/x y'"]
    assert meant(shorthands.paths(["dataset.root=${oc.env:HOME}/x"], swept=False)[0]) == f"{tmp_path}/x"


def test_the_home_folder_of_a_yaml_and_of_a_variable(config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MCR_DATA", "~/data")
    cfg = config("paths.root='~/results'")
    assert cfg["paths"] == {
        "root": f"{tmp_path}/results",
        "store": f"{tmp_path}/results/store",
        "data": f"{tmp_path}/data",
    }


def test_a_folder_that_hydra_would_interpolate_is_refused_in_one_line(tmp_path: Path) -> None:
    done = mcr("train", *TINY, folder=tmp_path, MCR_ROOT=str(tmp_path / "${x}"))
    assert done.returncode == 2
    assert done.stderr.startswith("mcr: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_paths_run_in_jobs_of_a_sweep(tmp_path: Path) -> None:
    root = tmp_path / "it's (x), y=1"
    done = mcr("train", "-m", *TINY, f"paths.root={root}", "replicate=0,1", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(root.glob("store/train/[!.]*"))) == 4


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    import mcr as package

    assert cli.dispatch(["--version"]) == 0
    assert capsys.readouterr().out == f"mcr {package.__version__}\n"


def test_synonyms_lead_to_words_that_are_there(config) -> None:
    """Of every hint the first word is a key or a group of the configuration, or begins with one."""
    cfg = config()
    for tried, name in SYNONYMS.items():
        first = name.split()[0].strip(",+").partition("=")[0].partition("@")[0].removesuffix(".*").split(".")
        first = [part for part in first if part not in ("NAME", "*")]
        found = {**cfg, "ends": {}, "endpoint": {}, "reference": {}, "dataset": {"root": ""}}
        if "*" in ".".join(name.split()[0].split(".")[:-1]) or first[0] == "probes":
            continue
        for part in first:
            assert part in found, f"{tried}: {name}"
            found = found[part] if isinstance(found[part], dict) else {}
    assert synonym("defense.batch_size") == "repair.budget.batch_size"
    assert synonym("endpoints.one.floor") == "endpoints.one.min_accuracy_over_chance"
    assert synonym("attack.steps") is None


def planned_with(bad: set[str], words: list[str]) -> None:
    if bad & set(words) or "*" in bad:
        raise ZeroDivisionError("division by zero\nand more")


@pytest.mark.parametrize(
    ("bad", "kind", "said"),
    [
        ({"b=2"}, InputError, r"^b=2 cannot be used: ZeroDivisionError: division by zero \(HYDRA_FULL_ERROR"),
        ({"a=1", "b=2"}, InputError, "^one of a=1 b=2 c=3 cannot be used"),
        ({"*"}, FaultError, "^this is a fault of mcr, please report it"),
    ],
)
def test_what_nobody_foresaw_names_the_override_that_causes_it(bad, kind, said) -> None:
    words = ["a=1", "b=2", "c=3"]
    found = faults.explained(ZeroDivisionError("division by zero\nand more"), words, lambda w: planned_with(bad, w))
    assert type(found) is kind
    assert "\n" not in str(found)
    with pytest.raises(kind, match=said):
        raise found


def test_an_unforeseen_error_of_a_plan_is_one_line_and_a_traceback_on_demand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def check(request) -> None:
        if any("replicate=3" in job.overrides for job in request.jobs):
            raise KeyError("nobody")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "check", check)
    monkeypatch.setattr("sys.argv", ["mcr", "train", *TINY, "replicate=3"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(InputError) as raised:
        cli.main()
    assert isinstance(raised.value.__cause__, KeyError)
    monkeypatch.delenv("HYDRA_FULL_ERROR")
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("mcr: replicate=3 cannot be used: KeyError: 'nobody'")


@pytest.mark.slow
def test_a_locale_of_few_characters_changes_no_file(tmp_path: Path) -> None:
    """The report has "±" in it; so has the closing table."""
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = fresh("report", *TINY, folder=tmp_path, **locale)
    assert done.returncode == 0, done.stderr
    assert " ? " in done.stdout
    (folder,) = (tmp_path / "multirun" / "runs").iterdir()
    assert "±" in (folder / "report.md").read_text(encoding="utf-8")

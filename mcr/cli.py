"""The command line: verbs, views, and the only ``@hydra.main``."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path

import hydra
from omegaconf import DictConfig

from mcr import overrides, views
from mcr.errors import InputError

VERBS = ("train", "connect", "evaluate", "report")
VIEWS = ("show", "list")
STATUS_FAILED, STATUS_INPUT, STATUS_INTERRUPTED = 1, 2, 130


def conf_folder() -> Path:
    """The checkout's ``conf/`` where there is one, else the copy that the wheel carries."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "conf"
    return checkout if (package.parent / "pyproject.toml").is_file() and checkout.is_dir() else package / "conf"


@hydra.main(config_path=str(conf_folder()), config_name="config", version_base="1.3")
def job(cfg: DictConfig) -> None:
    """One run, or one job of a sweep, maybe in another process."""
    from mcr import run

    overrides.register_resolvers()
    run.job(cfg)


def main() -> None:
    """Entry point of ``mcr`` and ``python -m mcr``; exits with 0, 1 (failed), 2 (bad input) or 130 (interrupted)."""
    full_traceback = "HYDRA_FULL_ERROR" in os.environ
    # Without this Hydra prints errors itself and exits with 1; they are to arrive below.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        status = dispatch(sys.argv[1:])
    except KeyboardInterrupt:
        print("mcr: interrupted; the same command goes on where this one stopped", file=sys.stderr)
        status = STATUS_INTERRUPTED
    except (InputError, OSError) as error:
        if full_traceback:
            raise
        print(f"mcr: {error}", file=sys.stderr)
        status = STATUS_INPUT if isinstance(error, InputError) else STATUS_FAILED
    sys.exit(status)


def dispatch(words: list[str]) -> int:
    """Carry out one command line; returns the exit status."""
    overrides.register_resolvers()
    # A network or package beside the user is importable by the console script too, as it is by python -m.
    sys.path.insert(0, str(Path.cwd()))
    verb, words = _split_verb(words)
    if verb == "list":
        views.list_options(conf_folder(), words)
        return 0
    args = overrides.parse_arguments(words)
    if overrides.is_view(args):
        _hide_verb_from_completion()
        _start_hydra(words)
        return 0
    args.overrides = overrides.imported_architecture(args.overrides)
    request = overrides.compose_jobs(conf_folder(), args)
    if verb == "show":
        views.show_plans(request)
        return 0
    from mcr import run, sweep

    run.check(request)
    flags = [word for word in words if word not in args.overrides and "=" not in word]
    kind, key = ("sweeps", "hydra.sweep.dir") if request.swept else ("runs", "hydra.run.dir")
    given = [word.split("=", 1)[1] for word in args.overrides if word.startswith(f"{key}=")]
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = Path(given[-1]) if given else Path(request.jobs[0].config["paths"]["root"]) / kind / stamp
    _start_hydra([*flags, *args.overrides, f"{key}={folder}", f"verb={verb}"])
    return sweep.finish(folder) if request.swept else run.finish(folder)


def _split_verb(words: list[str]) -> tuple[str, list[str]]:
    """The verb or view, wherever it stands among the words; plain ``mcr`` means ``report``."""
    plain = [word for word in words if "=" not in word and not word.startswith(("-", "~", "+"))]
    # A flag's value (a folder, a configuration's name) is no verb; a first word that is none of ours is a mistake.
    for word in plain:
        if word in VERBS + VIEWS:
            rest = list(words)
            rest.remove(word)
            return word, rest
    if plain and words[0] == plain[0]:
        from mcr.build import nearest

        raise InputError(f"there is no verb {plain[0]}; {nearest(plain[0], [*VERBS, *VIEWS])}")
    return "report", words


def _hide_verb_from_completion() -> None:
    """Hydra completes overrides only; the verb in front of them would make it give up."""
    line = os.environ.get("COMP_LINE", "").split(" ")
    if len(line) > 2 and line[1] in VERBS + VIEWS:
        os.environ["COMP_LINE"] = " ".join([line[0], *line[2:]])


def _start_hydra(words: list[str]) -> None:
    sys.argv = [sys.argv[0], *words]
    job()

"""The command line: verbs, views, and the only ``@hydra.main``."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from datetime import datetime
from pathlib import Path

import hydra
from omegaconf import DictConfig
from rich.console import Console

import mcr
from mcr.app import cost, explain, export, faults, launching, options, overrides, prune, run, shorthands, show
from mcr.app.composition import conf_folder
from mcr.errors import STATUS_FAILED, STATUS_INPUT, STATUS_INTERRUPTED, FaultError, InputError
from mcr.store.build import nearest
from mcr.text import CELL, printable

VERBS = ("train", "connect", "evaluate", "report", "repair", "merge")
VIEWS = ("show", "list", "explain", "prune", "export")
PLAIN = ("list", "explain", "export")  # whose words are no verbs
TAKES_FILES = ("repair", "connect", "merge")  # of weights, after the verb
RERUN = "--experimental-rerun"
PLACES = ("hydra.sweep.dir", "paths.root")  # of a joint report
# Hydra's options whose next word is a value.
VALUE_FLAGS = frozenset(
    {"--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--package", "-p"}
    | {"--cfg", "-c", "--info", "-i", "--shell-completion", "-sc"}
)


@hydra.main(config_path=str(conf_folder()), config_name="config", version_base="1.3")
def job(cfg: DictConfig) -> float | None:
    """One run, or one job of a sweep, maybe in another process; see ``run.job``."""
    _print_anything()
    overrides.register_resolvers()
    return run.job(cfg)


def main() -> None:
    """Entry point of ``mcr`` and ``python -m mcr``; exits with 0, 1 (failed), 2 (bad input) or 130 (interrupted)."""
    full_traceback = "HYDRA_FULL_ERROR" in os.environ
    _print_anything()
    # Without this Hydra prints errors itself and exits with 1; they are to arrive below.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Lightning would end the training that runs, and a sweep go on with its next job. It calls this as well.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        status = dispatch(sys.argv[1:])
    except KeyboardInterrupt:
        print("mcr: interrupted; the same command goes on where this one stopped", file=sys.stderr)
        status = STATUS_INTERRUPTED
    except (InputError, FaultError, OSError) as error:
        if full_traceback:
            raise
        print(f"mcr: {printable(error, CELL)}", file=sys.stderr)
        status = STATUS_INPUT if isinstance(error, InputError) else STATUS_FAILED
    sys.exit(status)


def _print_anything() -> None:
    """A console of few characters shows others as question marks, instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def dispatch(words: list[str]) -> int:
    """Carry out one command line; returns the exit status."""
    if "--version" in words:
        print(f"mcr {mcr.__version__}")
        return 0
    overrides.register_resolvers()
    if RERUN in words:
        raise InputError(f"{RERUN} starts Hydra without a plan: repeat the command, what is finished is found again")
    view, verb, files, words = _split_verbs(words)
    if view == "export":
        chosen = overrides.compose_jobs(conf_folder(), overrides.parse_arguments(["runtime=cpu"]), verb).jobs[0]
        print(printable(export.Export.asked(words).write(chosen.config["runtime"]), CELL))
        return 0
    if verb == "report" and files:
        return _join([Path(file) for file in files], words)
    swept = bool({"-m", "--multirun"} & set(words)) or any(w.startswith("hydra.mode=") for w in words)
    if verb == "merge":
        words = shorthands.merge(words, swept)
    given = [*shorthands.checkpoints(files), *words] if verb == "repair" else shorthands.joined(verb, files, words)
    if verb == "connect" and files:
        verb = "report"  # who names files wants to know what lies between them
    words = shorthands.paths(given, swept)
    if view == "list":
        options.list_options(conf_folder(), overrides.parse_arguments(words))
        return 0
    if view == "explain":
        explain.explain(conf_folder(), overrides.parse_arguments(words), Console())
        return 0
    own = {"prune": prune.YES, "show": cost.COST}  # what else than Hydra's options these views take
    asked = view in own and own[view] in words
    args = overrides.parse_arguments([word for word in words if not (asked and word == own[view])])
    if overrides.is_view(args):
        if not args.shell_completion:
            whole = overrides.check_names(conf_folder(), args)
            if args.help and options.plain_help(args, whole):
                print(options.help_text(conf_folder(), whole))
                return 0
        _hide_verb_from_completion()
        _start_hydra(words)
        return 0
    flags = [word for word in words if word not in args.overrides]
    args.overrides = shorthands.imported_architecture(args.overrides)
    request = planned(args, verb, "" if asked else view)  # who asks for a price asks for what can be made
    if view == "show":
        if asked:
            show.show_costs(request, Console())
        return 0
    if view == "prune":
        prune.prune(request.jobs[0].config["paths"], asked)
        return 0
    from mcr.app import sweep

    kind, key = ("sweeps", "hydra.sweep.dir") if request.swept else ("runs", "hydra.run.dir")
    given = [word.split("=", 1)[1] for word in args.overrides if word.startswith(f"{key}=")]
    parent = Path(request.jobs[0].config["paths"]["root"]) / kind
    place = Path(shorthands.unquoted(given[-1])) if given else parent
    if "${" in str(place.absolute()):
        raise InputError(f"{place}: Hydra takes ${{ in the name of a run's folder for an interpolation; name another")
    if request.searched and place.is_dir() and sweep.holds_jobs(place):
        raise InputError(
            f"hydra.sweep.dir={place} holds jobs already, which a search would mix with its own: name another"
        )
    folder = place if given else _new_folder(parent)
    words = [*flags, *request.given, f"{key}={shorthands.quoted(str(folder))}", f"verb={verb}"]
    if not request.swept:
        _start_hydra(words)
        return run.finish(folder)
    share = launching.threads(request.launcher, len(request.jobs))
    if share and not any(word.startswith("runtime.threads=") for word in words):
        words.append(f"runtime.threads={share}")
    try:
        if request.searched:
            launching.search(lambda more: _start_hydra([*words, *more]))
        else:
            launching.launch(
                lambda more: _start_hydra([*words, *more]), lambda: sweep.unfinished(folder, request), len(request.jobs)
            )
    except KeyboardInterrupt:
        sweep.finish(folder, request)
        raise
    return sweep.finish(folder, request)


def _join(folders: list[Path], words: list[str]) -> int:
    """``mcr report FOLDER...``: one report over jobs that are there; nothing is computed."""
    from mcr.app import sweep

    for word in words:
        if word.partition("=")[0] not in PLACES:
            raise InputError(
                f"{word}: mcr report FOLDER... reports what was measured, as it is; beside folders it takes only "
                f"{' and '.join(f'{key}=DIR' for key in PLACES)}"
            )
    args = overrides.parse_arguments([word for word in words if word.startswith("paths.root=")])
    given = [word.split("=", 1)[1] for word in words if word.startswith("hydra.sweep.dir=")]
    root = overrides.compose_jobs(conf_folder(), args, "report").jobs[0].config["paths"]["root"]
    return sweep.join(
        folders, lambda: Path(shorthands.unquoted(given[-1])) if given else _new_folder(Path(root) / "reports")
    )


def planned(args: argparse.Namespace, verb: str, view: str) -> overrides.Request:
    """What a command line asks for, planned and checked, or shown.

    Raises:
        InputError: For a mistake; also for an error that nobody foresaw, where an override causes it.
        FaultError: Where none does.
    """

    def tried(words: list[str], console: Console | None) -> overrides.Request:
        request = overrides.compose_jobs(conf_folder(), argparse.Namespace(**vars(args) | {"overrides": words}), verb)
        if view == "show":
            show.show_plans(request, console or Console(quiet=True))
        else:
            run.check(request)
        return request

    try:
        return tried(args.overrides, Console())
    except (InputError, OSError):
        raise
    except Exception as error:
        raise faults.explained(error, args.overrides, lambda words: tried(words, None)) from error


def _new_folder(parent: Path) -> Path:
    """A folder of this command alone, named by the time; commands of the same second get a number."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    parent.mkdir(parents=True, exist_ok=True)
    folder, attempt = parent / stamp, 1
    while True:
        try:
            folder.mkdir()
        except FileExistsError:
            attempt += 1
            folder = parent / f"{stamp}_{attempt}"
        else:
            return folder


def _split_verbs(words: list[str]) -> tuple[str, str, list[str], list[str]]:
    """The view (or nothing), the verb, the files or folders after it, the other words; plain ``mcr`` means ``report``.

    Raises:
        InputError: For a word that is none of them, naming the nearest, or for two verbs.
    """
    view, verb, files, rest = "", "", [], []
    for before, word in zip(["", *words], words, strict=False):
        there = Path.is_dir if verb == "report" else Path.is_file if verb in TAKES_FILES else None
        if there is not None and not word.startswith("-") and there(Path(word)):
            files.append(word)  # some programs put "=" into the names of their files
        elif "=" in word or word.startswith(("-", "~", "+")) or before in VALUE_FLAGS or view in PLAIN:
            rest.append(word)
        elif word in VIEWS and not view:
            view = word
        elif word in VERBS and not verb:
            verb = word
        elif word in VERBS + VIEWS:
            raise InputError(f"one verb at a time: {word} is one too many")
        elif verb in (*TAKES_FILES, "report"):
            files.append(word)
        else:
            raise InputError(f"there is no verb {word}; {nearest(word, [*VERBS, *VIEWS])}")
    return view, verb or "report", files, rest


def _hide_verb_from_completion() -> None:
    """Hydra completes overrides only; the verb in front of them would make it give up."""
    line = os.environ.get("COMP_LINE", "").split(" ")
    if len(line) > 2 and line[1] in VERBS + VIEWS:
        os.environ["COMP_LINE"] = " ".join([line[0], *line[2:]])


def _start_hydra(words: list[str]) -> None:
    sys.argv = [sys.argv[0], *words]
    job()

"""Commands as processes of their own, forked from one that has loaded the libraries: those take seconds each time."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

LOADED = ["mcr.app.cli", "mcr.stages.train", "mcr.stages.report", "matplotlib.backends.backend_agg"]
OUT, ERR = 1, 2  # of a process


def environment(**changes: str) -> dict[str, str]:
    """This process's variables without settings of mcr, Hydra and W&B, and with some changes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MCR_", "HYDRA_", "WANDB_"))}
    return kept | {"COLUMNS": "100", "MPLBACKEND": "agg"} | changes


def nothing() -> None:
    """Is done before a command as users give it."""


def start(
    words: list[str], folder: Path, out: Path, err: Path, env: dict[str, str], before: Callable[[], None] = nothing
) -> ForkServerProcess:
    """``python -m mcr WORDS`` in a folder, its output in two files; ``before`` is called in that process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    process = context.Process(target=_command, args=(words, str(folder), str(out), str(err), env, before))
    process.start()
    return process


def mcr(
    *words: str, folder: Path, timeout: float = 120, before: Callable[[], None] = nothing, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m mcr WORDS`` in a folder to its end."""
    out, err = (folder.with_name(f"{folder.name}.{kind}") for kind in ("stdout", "stderr"))
    process = start(list(words), folder, out, err, environment(**env), before)
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        raise subprocess.TimeoutExpired(["mcr", *words], timeout, out.read_text(), err.read_text())
    said, complained = out.read_text(), err.read_text()
    return subprocess.CompletedProcess(["mcr", *words], process.exitcode, said, complained)


def fresh(*words: str, folder: Path, timeout: float = 300, **env: str) -> subprocess.CompletedProcess[str]:
    """The same in a process that loads everything itself, with its own variables from the first import on.

    For what looks at them then (Lightning), and for what starts processes of its own, which would wait for the one
    that others are forked from.
    """
    command = [sys.executable, "-m", "mcr", *words]
    return subprocess.run(command, cwd=folder, env=environment(**env), capture_output=True, text=True, timeout=timeout)


def _command(
    words: list[str], folder: str, out: str, err: str, env: dict[str, str], before: Callable[[], None]
) -> None:
    for number, path in ((OUT, out), (ERR, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = [*filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = ["mcr", *words]
    before()
    from mcr.app.cli import main

    main()

"""How a job's folder says that it did not end well."""

from __future__ import annotations

import traceback
from pathlib import Path

from mcr.errors import STATUS_FAILED, STATUS_INPUT, InputError

FILE = "failure.txt"
UNFINISHED = (STATUS_FAILED, "did not finish: its process was killed or interrupted")


def begin(folder: Path) -> None:
    """Say so from a job's beginning on, until it ends."""
    _write(folder, "Unfinished", UNFINISHED[1], "")


def end(folder: Path) -> None:
    """The job ended well."""
    (folder / FILE).unlink()


def read(folder: Path) -> tuple[int, str]:
    """The exit status of a job and the reason of its failure in one line: 0, 1 (failed) or 2 (bad input)."""
    try:
        kind, *said = (folder / FILE).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:  # a job that still runs may take it away at any time
        return 0, ""
    if not kind:  # killed, or still at work, between the file's making and its first line
        return UNFINISHED
    return (STATUS_INPUT if kind == InputError.__name__ else STATUS_FAILED), said[0]


def write(folder: Path, error: Exception | SystemExit, foreseen: bool) -> tuple[str, str]:
    """Write down what ended a job.

    Args:
        folder: The job's.
        error: That it raised.
        foreseen: Whether it speaks for itself; else its traceback is kept as well.

    Returns:
        The reason in one line, and the whole text.
    """
    kind = type(error).__name__
    said = _ended(error) if isinstance(error, SystemExit) else str(error)
    # A name may hold half a character, which no file takes.
    said, text = (_encodable(part) for part in (said, said if foreseen else traceback.format_exc()))
    # A message may have several lines, of which the first says most.
    first = next(iter(said.splitlines()), "")
    reason = first if foreseen and first else ": ".join(filter(None, (kind, first)))
    try:
        _write(folder, kind, reason, text)
    except OSError:  # a full disk has no room for this either
        raise error from None
    return reason, text


def _write(folder: Path, kind: str, reason: str, text: str) -> None:
    """The kind and the reason, a line each, and the whole text."""
    (folder / FILE).write_text(f"{kind}\n{reason}\n\n{text}\n", encoding="utf-8")


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _ended(error: SystemExit) -> str:
    """What is said of code of the user's, such as a network's forward pass, that would end the program.

    Or of a scheduler that ends a worker, which Lightning notices.
    """
    if type(error).__name__ == "SIGTERMException":  # by its name: Lightning takes seconds to load
        return "was told to stop (SIGTERM); the same command goes on where it stopped"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}, line {last.lineno} ends the program with SystemExit({error.code!r}): raise an error there"

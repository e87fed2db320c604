"""Whether a command ended as commands should: with its work done, or with one clear line."""

from __future__ import annotations

import subprocess
import unicodedata
from collections.abc import Callable
from pathlib import Path

from tests import processes

LONGEST = 700  # characters of a line that a person would read
ENDS = {0: "done", 1: "failed in one line", 2: "refused in one line"}


def command(
    *words: str, folder: Path, seconds: float = 60, before: Callable[[], None] = processes.nothing, **env: str
) -> tuple[str, str]:
    """Run ``mcr WORDS``: how it ended, and what is wrong with that ("" for nothing)."""
    try:
        done = processes.mcr(*words, folder=folder, timeout=seconds, before=before, **env)
    except subprocess.TimeoutExpired:
        return "", f"no end within {seconds:.0f} s"
    return ENDS.get(done.returncode, f"status {done.returncode}"), fault(done)


def fault(done: subprocess.CompletedProcess[str]) -> str:
    """What is wrong with the end of a command; "" for nothing."""
    if "Traceback" in done.stdout + done.stderr:
        return f"traceback: {_last(done.stderr)}"
    if done.returncode == 0:
        return ""
    if done.returncode not in ENDS:
        return f"status {done.returncode}: {_last(done.stderr)}"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if len(lines) != 1 or not lines[0].startswith("mcr: "):
        return f"{len(lines)} lines instead of one that begins with mcr: {_last(done.stderr)}"
    return unreadable(lines[0])


def unreadable(line: str) -> str:
    """Why a person could not read a line; "" where he can."""
    if len(line) > LONGEST:
        return f"a line of {len(line)} characters"
    if any(unicodedata.category(sign) in ("Cc", "Cf", "Zl", "Zp") for sign in line):
        return f"control characters reach the terminal: {line!r}"
    return ""


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return ascii(lines[-1])[:LONGEST] if lines else "(nothing)"

"""The last net: what nobody foresaw while a command was planned, as one line that names what caused it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mcr.errors import FaultError, InputError

SECONDS = 10.0  # at most, for finding the override; of many words the first ones are tried
MOST = 200  # characters of an error's own text and of an override
HOW = "HYDRA_FULL_ERROR=1 shows where"


def explained(error: Exception, words: Sequence[str], plan: Callable[[list[str]], object]) -> Exception:
    """The error to raise instead of one that nobody foresaw.

    Args:
        error: It.
        words: The overrides of the command.
        plan: Plans and checks a command of such overrides.

    Returns:
        An InputError that names the override without which all is well, or all of them where it takes several; a
        FaultError where it happens without any.
    """
    lines = str(error).strip().splitlines()
    said = f"{type(error).__name__}{f': {lines[0][:MOST]}' if lines else ''}"
    end = time.monotonic() + SECONDS
    for index, word in enumerate(words):
        if time.monotonic() > end:
            break
        if _error(plan, [*words[:index], *words[index + 1 :]]) is None:
            return InputError(f"{word[:MOST]} cannot be used: {said} ({HOW})")
    if words and _error(plan, []) is None:
        return InputError(f"one of {' '.join(words)[: 2 * MOST]} cannot be used: {said} ({HOW})")
    return FaultError(f"this is a fault of mcr, please report it: {said} ({HOW})")


def _error(plan: Callable[[list[str]], object], words: list[str]) -> Exception | None:
    """What planning with these overrides ends in; None where all is well."""
    try:
        plan(words)
    except Exception as error:
        return error
    return None

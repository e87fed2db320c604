"""Text from outside, made fit for where it goes."""

from __future__ import annotations


def printable(text: str, most: int = 300) -> str:
    """Text in one line for a terminal: what is no printable character is escaped, what is too long is cut.

    A name in a file may hold line breaks, a terminal's commands, or marks that turn the direction of writing.

    Args:
        text: From anywhere.
        most: Characters that are kept; how many there were is told.

    >>> printable("a\\nb \\x1b[2J \\u202e")
    'a\\\\nb \\\\x1b[2J \\\\u202e'
    >>> printable("weight" * 100, most=6)
    'weight... (600 characters)'
    """
    kept = text[:most]
    line = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in kept)
    return line if len(text) <= most else f"{line}... ({len(text)} characters)"

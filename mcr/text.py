"""Text from outside (names of classes, files and labels, titles, messages) made fit for the place where it will stand.

Whatever shows such text calls one of these where it writes, and nowhere else.
"""

from __future__ import annotations

import re
import unicodedata

CELL, IN_FIGURE = 1000, 100  # characters of a name or a sentence in a table, and of a name in a figure
# Control characters, line and paragraph separators, marks that turn the direction of writing, halves of characters.
INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
JOINERS = "\u200c\u200d"  # of letters and of emoji, which mean something where they stand
FORMULA = ("=", "+", "-", "@")
NUMBERS = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?( ± \d+\.?\d*)?", re.IGNORECASE)


def printable(text: object, most: int = 300) -> str:
    r"""Text as one line that a terminal shows and does not obey, with its middle left out where it is long.

    Args:
        text: Anything.
        most: Characters at most.

    >>> printable("two\nlines, \x1b[2J")
    'two\\nlines, \\x1b[2J'
    >>> printable("abcdefghij", most=7)
    'abc…hij'
    """
    shown = "".join(map(_visible, str(text)))
    if len(shown) <= most:
        return shown
    kept = most - 1
    return f"{shown[: kept - kept // 2]}…{shown[len(shown) - kept // 2 :]}"


def _visible(character: str) -> str:
    if unicodedata.category(character) in INVISIBLE and character not in JOINERS:
        return character.encode("unicode_escape").decode("ascii")
    return character


def markdown_cell(text: object, most: int = CELL) -> str:
    r"""Text in a Markdown table, heading or sentence: read as it is, with no markup, HTML or link of its own.

    >>> markdown_cell("a|b <img src=x> `c` $x_$ _d_ ![e](f)")
    'a\\|b &lt;img src=x> \\`c\\` \\$x\\_\\$ \\_d\\_ !\\[e\\](f)'
    >>> markdown_cell("robust_loss interior < 0.1, grid=[0,1]")
    'robust_loss interior < 0.1, grid=[0,1]'
    """
    shown = re.sub(r"([\\`*|$~])", r"\\\1", printable(text, most))
    shown = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", shown)  # between letters it is no emphasis
    shown = re.sub(r"\[(?=[^]]*\][(\[])|\](?=[(\[])", r"\\\g<0>", shown)
    shown = re.sub(r"&(?=#?\w+;)", "&amp;", shown)
    shown = re.sub(r"<(?=[\w/!?])", "&lt;", shown)
    return re.sub(r"^([#>+-])(?=\s|$)|^>", r"\\\g<0>", shown)


def markdown_code(text: object) -> str:
    """A name in a sentence of Markdown, set as code.

    >>> markdown_code("path_point"), markdown_code("a`b")
    ('`path_point`', "`a'b`")
    """
    return f"`{printable(text, CELL).replace('`', chr(39))}`"


def csv_cell(value: object) -> object:
    """A value in a file of comma-separated values: a text that a spreadsheet would take for a formula begins with '.

    Numbers, also with a sign or a standard error, stay as they are.

    >>> csv_cell("=1+1"), csv_cell("-2.5"), csv_cell("+0.5 ± 0.1"), csv_cell("@home"), csv_cell(-1)
    ("'=1+1", '-2.5', '+0.5 ± 0.1', "'@home", -1)
    """
    if not isinstance(value, str):
        return value
    shown = printable(value, most=10_000)
    formula = shown.lstrip().startswith(FORMULA) and not NUMBERS.fullmatch(shown)
    return f"'{shown}" if formula else shown


def figure_text(text: object, most: int = IN_FIGURE) -> str:
    r"""Text in a figure: no formula between dollars, one line.

    >>> figure_text("$x_$\n")
    '\\$x_\\$\\n'
    """
    return printable(text, most).replace("$", r"\$")

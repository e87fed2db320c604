"""Tables in LaTeX, of its kernel's own commands: no package is needed. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from mcr.text import printable

SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\ensuremath{<}",
    ">": r"\ensuremath{>}",
    "|": r"\ensuremath{|}",
    "±": r"\ensuremath{\pm}",
    "[": "{[}",  # after \\ a bracket would begin its argument
    "]": "{]}",
}


def escaped(text: object) -> str:
    r"""Text as it reads in LaTeX, with no command of its own.

    >>> escaped("attack.eps=8/255, 50 % ± 1_0 \\input{x}")
    'attack.eps=8/255, 50 \\% \\ensuremath{\\pm} 1\\_0 \\textbackslash{}input\\{x\\}'
    """
    return "".join(SPECIAL.get(character, character) for character in printable(text))


def tabular(columns: Sequence[str], rows: Sequence[Sequence[str]], labels: int) -> str:
    """A table, its first columns to the left and the others to the right.

    Args:
        columns: Their heads.
        rows: Text, as many cells as columns.
        labels: How many of the columns are names of rows.
    """

    def line(cells: Sequence[str]) -> str:
        return f"{' & '.join(map(escaped, cells))} \\\\"

    form = "l" * labels + "r" * (len(columns) - labels)
    body = [line(columns), r"\hline", *map(line, rows)]
    return "\n".join([rf"\begin{{tabular}}{{{form}}}", r"\hline", *body, r"\hline", r"\end{tabular}"]) + "\n"

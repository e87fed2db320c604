"""The lines above a figure."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure

from mcr.text import figure_text

MOST = 300  # characters in all
AN_INCH = 13  # characters of this size


def head(figure: Figure, settings: str) -> None:
    """What all of a figure has in common, in as many lines as its width needs; nothing for no text."""
    if settings:
        lines = textwrap.wrap(figure_text(settings, MOST), int(AN_INCH * figure.get_size_inches()[0]))
        figure.suptitle("\n".join(lines), fontsize=9)

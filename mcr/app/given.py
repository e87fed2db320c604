"""What Hydra is given for a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from mcr.app.composition import Composer


def given(composer: Composer, words: Sequence[str]) -> list[str]:
    """The words of a sweep as Hydra takes them.

    Hydra first composes what does not vary, alone. A word that fits only beside a value that varies, such as an edit of
    an end that one of several ``ends=`` has, would not fit there: it goes in as a list of one value, and varies too.
    """
    overrides = composer.parser.parse_overrides(list(words))
    fixed = [override for override in overrides if not override.is_sweep_override()]
    if _fits(composer, [str(override.input_line) for override in fixed]):
        return list(words)
    kept: list[str] = []
    varied: list[Override] = []
    for override in sorted(fixed, key=composer.is_value):  # what is chosen first, then the values in it
        line = str(override.input_line)
        if override.is_delete() or _fits(composer, [*kept, line]):
            kept.append(line)
        else:
            varied.append(override)
    lists = {one.input_line: f"{one.get_key_element()}=choice({one.get_value_string()})" for one in varied}
    return [lists.get(word, word) for word in words]


def _fits(composer: Composer, words: Sequence[str]) -> bool:
    try:
        composer.compose(words)
    except (HydraException, OmegaConfBaseException):
        return False
    return True

"""Choices beside those of the defaults list: +probe@probes.NAME=OPTION."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from mcr.errors import InputError
from mcr.store import build

PLACES = (
    *("endpoint@endpoints.*", "probe@probes.*", "reference@references.*", "edit@endpoints.*.edits.*"),
    *("merge@merges.*", "signal@suspicion.signals.*", "repair@repair.members.*"),
    *("attack@probes.*.attack", "attack@probes.*.attacks.*"),
)


def check(group: str, choices: Mapping[str, Any]) -> None:
    """Whether something reads a choice that was added, such as "probe@probes.mine".

    Args:
        group: With its place.
        choices: All that are made, by group.

    Raises:
        InputError: For a place that nothing reads, or one within a probe or network that is not there.
    """
    if not any(_is_at(group, place) for place in PLACES):
        near = [place for place in PLACES if place.partition("@")[0] == group.partition("@")[0]]
        raise InputError(f"nothing reads +{group}; what may be added is {' or '.join(near or PLACES)}")
    first, *others = group.partition("@")[2].split(".")
    whole, kind = f"{first}.{others[0]}", first.removesuffix("s")
    within = first in ("endpoints", "probes") and len(others) > 1  # a network or a probe, which has a name
    if within and f"{kind}@{whole}" not in choices:
        known = [name.partition("@")[2] for name in choices if name.startswith(f"{kind}@{first}.")]
        raise InputError(f"nothing reads +{group}: there is no {whole}; {build.nearest(whole, known)}")


def _is_at(group: str, place: str) -> bool:
    """Whether a group stands at a place in which * is one name."""
    own, wanted = group.split("."), place.split(".")
    return len(own) == len(wanted) and all(map(fnmatchcase, own, wanted))

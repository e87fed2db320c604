"""What words of the command line stand for: files after ``repair``, the import path of a user's network, paths."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from mcr.errors import InputError
from mcr.store import identity

# What joins so many networks, and what flat shape it is compared with.
SHAPES = {2: ("bezier", "straight"), 3: ("bezier_triangle", "simplex"), 4: ("bezier_surface", "bilinear")}
MOST_NAME = 50  # characters of a file's name that become a network's
ALIGN, JOINTLY = "align=", "match_jointly"
ONE_MODEL = "permuted_copy"  # how the second network is made where a user has one


def imported_architecture(overrides: list[str]) -> list[str]:
    """``architecture._target_=...`` alone means the user's own network, free of another option's arguments."""
    keys = {override.split("=", 1)[0] for override in overrides}
    if "architecture._target_" in keys and "architecture" not in keys:
        return ["architecture=imported", *overrides]
    return overrides


def checkpoints(files: list[str]) -> list[str]:
    """The overrides for which files on the command line of ``repair`` stand: one network, or two.

    From a single network the second is made. Raises InputError for more than two, or one that is not there.
    """
    if len(files) > 2:
        raise InputError(f"repair takes one or two networks, not {len(files)}: {' '.join(files)}")
    words = []
    for role, file in zip(("start", "end"), files, strict=False):
        _there(file)
        words += [f"endpoint@endpoints.{role}=checkpoint", f"endpoints.{role}.path={quoted(file)}"]
    return [*words, f"endpoint@endpoints.end={ONE_MODEL}"] if len(files) == 1 else words


def joined(verb: str, files: list[str], words: list[str]) -> list[str]:
    """The overrides for which files after ``connect`` and ``merge`` stand: networks by the names of their files.

    Three are joined by a triangle, four by a surface, unless ``curve=`` says otherwise; more by the flat simplex.
    ``align=match_weights`` among the words aligns all networks with the first, ``align=match_jointly`` with each other.

    Raises:
        InputError: For a file that is not there, one that is named twice, a single one.
    """
    if not files:
        return words
    if len(files) < 2:
        raise InputError(f"mcr {verb} takes two networks or more, not {files[0]} alone")
    named: dict[str, str] = {}
    for file in files:
        _there(file)
        if any(os.path.samefile(file, other) for other in named.values()):
            raise InputError(f"{file} is named twice: give different networks")
        stem = re.sub(r"\W+", "_", Path(file).stem).strip("_")[:MOST_NAME] or "network"
        taken = {*named, "start", "end"}  # the places of the networks that are taken away
        choices = (stem, *(f"{stem}_{number}" for number in range(2, len(files) + 4)))
        named[next(name for name in choices if name not in taken)] = file
    chosen = [f"~endpoint@endpoints.{name}" for name in ("start", "end")]
    for name, file in named.items():
        chosen += [f"+endpoint@endpoints.{name}=checkpoint", f"endpoints.{name}.path={quoted(file)}"]
    curve, beside = SHAPES.get(len(files), ("simplex", "simplex"))
    given = any(word.startswith("curve=") for word in words)
    chosen += [*([] if given else [f"curve={curve}"]), f"reference@references.straight={beside}"]
    for word in words:
        chosen += _aligned(word.removeprefix(ALIGN), list(named)) if word.startswith(ALIGN) else [word]
    return chosen


def _aligned(edit: str, names: list[str]) -> list[str]:
    """The overrides with which networks are aligned by an edit: each with the first, or all of them together."""
    jointly = edit == JOINTLY
    words = [f"+edit@endpoints.{name}.edits.align={edit}" for name in (names if jointly else names[1:])]
    return words if jointly else [*words, *(f"endpoints.{name}.edits.align.reference={names[0]}" for name in names[1:])]


def merge(words: list[str], swept: bool) -> list[str]:
    """``merge=greedy_soup`` after the verb stands for the one merge that is written; without it the average.

    Raises:
        InputError: For a sweep.
    """
    if swept:
        raise InputError("mcr merge writes one file: compare merges with +merge@merges.NAME=... in one report")
    rules = [word.partition("=")[2] for word in words if word.startswith("merge=")]
    others = [word for word in words if not word.startswith("merge=")]
    if not rules and any(word.startswith("+merge@merges.") for word in words):
        return words
    return [f"+merge@merges.merged={rules[-1] if rules else 'average'}", *others]


def _there(file: str) -> None:
    """Raises InputError for what is no file."""
    if Path(file).is_dir():
        raise InputError(f"{file} is a folder: name the file of weights in it")
    if not Path(file).is_file():
        raise InputError(f"there is no file {file}")


def paths(words: Iterable[str], swept: bool) -> list[str]:
    """Overrides with paths as they stand in a file system: blanks, brackets, commas, quotes and ``~`` mean themselves.

    What has quotes of its own, or is null, is left as it is; interpolations such as ``${oc.env:DATA}/photos`` are kept.

    Args:
        words: Of the command line.
        swept: A comma separates paths to read, unless all of it is one; functions such as ``glob(...)`` are Hydra's.
    """
    return [_path(word, swept) for word in words]


def _path(word: str, swept: bool) -> str:
    key, equals, value = word.partition("=")
    if not (equals and identity.is_place(key.lstrip("+"))) or value in ("", "null", "???") or value[0] in "'\"":
        return word
    there = Path(os.path.expanduser(value)).exists()
    if swept and not there and re.match(r"(choice|range|glob|sort|shuffle|interval)\(", value):
        return word
    # Results of all jobs lie in one place.
    several = [value] if there or key.lstrip("+").startswith(("paths.", "hydra.")) else value.split(",")
    if len(several) > 1 and (swept or all(Path(os.path.expanduser(one)).exists() for one in several)):
        return f"{key}={','.join(_literal(one) for one in several)}"
    return f"{key}={_literal(value)}"


def _literal(path: str) -> str:
    path = os.path.expanduser(path)
    return quoted(path) if os.path.exists(path) else _in_quotes(path)


def quoted(text: str) -> str:
    """Text as a value in Hydra's grammar that means itself, whatever characters it has."""
    return _in_quotes(re.sub(r"(\\*)\$\{", lambda found: f"{2 * found[1]}\\${{", text))


def _in_quotes(text: str) -> str:
    # Only before a quote and at the end a backslash stands for something.
    return "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), text) + "'"


def unquoted(text: str) -> str:
    """What a value in Hydra's quotes means; other text is left as it is."""
    if len(text) < 2 or text[0] not in "'\"" or text[-1] != text[0]:
        return text
    return re.sub(rf"(\\+)({text[0]}|$)", lambda found: found[1][: len(found[1]) // 2] + found[2], text[1:-1])

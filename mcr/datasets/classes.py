"""Which folders of images stand for which outputs of a network: the option ``dataset.classes``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mcr.errors import InputError

AUTO, NOBODY = "auto", "-"
SHAPE = "auto, or a list of folders in the order of the network's outputs, - for an output without images"
BARE = re.compile(r"[\w.][\w.-]*")  # words that Hydra's grammar reads as text, but for these
RESERVED = frozenset({"null", "true", "false", "nan", "inf"})
MOST_NAMES = 20  # a longer list helps nobody in an error line


@dataclass(frozen=True)
class Classes:
    """The classes of a data set, one for each output of its networks.

    Attributes:
        names: In the order of the outputs.
        folders: Of each class; none where nobody has images of it.
        unused: Folders beside them, of no class.
    """

    names: tuple[str, ...]
    folders: tuple[tuple[str, ...], ...]
    unused: tuple[str, ...]

    @property
    def index(self) -> dict[str, int]:
        """Folder to the number of its class."""
        return {name: label for label, names in enumerate(self.folders) for name in names}


def classes(option: Any, found: Sequence[str], place: Path) -> Classes:
    """What ``dataset.classes`` makes of the folders that there are.

    Args:
        option: "auto": each folder is a class, in the order given. Or a list, one entry an output: a folder; "-" or
            null for an output without images; ``{NAME: [FOLDER, ...]}`` for a class of several folders.
        found: The folders.
        place: Where they lie, for the message.

    Raises:
        InputError: For another shape of the option, a folder that is not there, and one that is named twice.

    >>> classes([2, "-", {"both": [0, 1]}], ["0", "1", "2", "3"], Path("clean"))
    Classes(names=('2', 'output 1', 'both'), folders=(('2',), (), ('0', '1')), unused=('3',))
    """
    if option == AUTO:
        return Classes(tuple(found), tuple((name,) for name in found), ())
    if isinstance(option, str) or not isinstance(option, Sequence):
        raise InputError(f"dataset.classes={option}: {SHAPE}")
    names, folders = [], []
    for number, entry in enumerate(option):
        name, members = _entry(entry, number)
        folders.append(tuple(_folder(member, found, place) for member in members))
        names.append(name if isinstance(name, str) else folders[-1][0])
    taken = [name for members in folders for name in members]
    for words in (names, taken):
        for word in words:
            if words.count(word) > 1:
                raise InputError(f"dataset.classes names {word} twice")
    return Classes(tuple(names), tuple(folders), tuple(name for name in found if name not in taken))


def _entry(entry: Any, number: int) -> tuple[Any, list[Any]]:
    """Name and folders of the class of an output."""
    if entry is None or entry == NOBODY:
        return f"output {number}", []
    if isinstance(entry, str | int | float):
        return entry, [entry]
    if not isinstance(entry, Mapping):
        raise InputError(f"dataset.classes: several folders for one output are written {{NAME: {entry}}}")
    if len(entry) != 1:
        raise InputError(f"dataset.classes: {dict(entry)} must be one NAME: [FOLDER, ...]")
    name, members = next(iter(entry.items()))
    if members is None or isinstance(members, str | int | float):
        members = [] if members is None else [members]
    return str(name), list(members)


def _folder(name: Any, found: Sequence[str], place: Path) -> str:
    if str(name) in found:
        return str(name)
    # Numbers lose their leading zeros where they are typed.
    same = [known for known in found if type(name) is int and known.isdecimal() and int(known) == name]
    if len(same) == 1:
        return same[0]
    close = get_close_matches(str(name), found, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(found[:MOST_NAMES])}"
    raise InputError(f"dataset.classes: there is no folder {name} in {place}; {hint}")


def option(names: Sequence[str]) -> str:
    """The override that names folders in an order, as it is typed in a shell.

    >>> print(option(["cat", "-"]), option(["cat", "my dog"]))
    dataset.classes=[cat,-] 'dataset.classes=[cat,"my dog"]'
    """
    words = [
        name if name == NOBODY or (BARE.fullmatch(name) and name.lower() not in RESERVED) else f'"{name}"'
        for name in names
    ]
    word = f"dataset.classes=[{','.join(words)}]"
    return shlex.quote(word) if '"' in word else word

"""Which part of a file is the network: the dict that holds its names, what stands before them, and what is beside."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mcr.foreign.reading import Contents, Entry, refusal
from mcr.text import printable

# Keys of dicts and beginnings of names, the usual ones first: of several parts that fit, the first is taken.
USUAL = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "_orig_mod")
# Words that DataParallel, torch.compile and their like put into names.
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
AUTO = "auto"
LAST = chr(sys.maxunicode)
MOST_TOLD = 8  # names of one kind in one line

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Part:
    """A part of a file that may be the network.

    Attributes:
        entry: The dict that it lies in.
        prefix: Of its names there, up to the last dot; "" for none.
        names: The network's name to the dict's, for those that are there.
        strange: Names below the prefix that the network does not have.
    """

    entry: Entry
    prefix: str
    names: dict[str, str]
    strange: tuple[str, ...]

    @property
    def label(self) -> str:
        """What ``key=`` calls it: keys and prefix, joined by dots; "" where nothing leads there."""
        return ".".join((*self.entry.path, *filter(None, (self.prefix.rstrip("."),))))


def find(contents: Contents, wanted: Shapes, optional: frozenset[str], key: str) -> tuple[Part, list[str]]:
    """The network's part of a file, and in words what else the file holds.

    A part fits where all names of the network lie in one dict below one prefix, whatever it is, and no other name does;
    where nothing fits so, ``module.`` and ``_orig_mod.`` are dropped inside the names, if that keeps them apart. Of
    several parts, those with the network's shapes come first, then the one whose keys and prefix come first: none
    before any, then ``state_dict``, ``model_state_dict``, ``model_state``, ``model``, ``net``, ``network``,
    ``module``, ``_orig_mod``, then others in the order of the file.

    Args:
        contents: Of the file.
        wanted: The network's names and shapes.
        optional: Names that may be missing.
        key: "auto", or what leads to the part: keys and prefix, joined by dots.

    Raises:
        InputError: Where no part fits, naming the first missing or unexpected name of the one that comes nearest, or
            the parts that there are.
    """
    nearest: list[tuple[int, Part]] = []
    for wrapped in (False, True):
        found = [pair for entry in contents.entries for pair in _parts(entry, wanted, optional, wrapped)]
        # The order of the file stays among those that are alike.
        found.sort(key=lambda pair: _rank(pair[1]))
        if key != AUTO:
            found = [(hits, part) for hits, part in found if f"{part.label}.".startswith(f"{key}.")]
        covering = [part for hits, part in found if hits == len(wanted.keys() - optional)]
        whole = [part for part in covering if not part.strange and (key != AUTO or not _inside(part, covering))]
        if whole:
            chosen = min(whole, key=lambda part: not _shapes_fit(part, wanted))
            return chosen, _told(contents, chosen, whole)
        nearest += found
    if key != AUTO and not nearest:
        there = _listed(label for entry in contents.entries if (label := ".".join(entry.path))) or "no key at all"
        raise refusal(contents.path, f"has no entry {printable(key)}: tensors lie under {there}")
    _, part = max(nearest, key=lambda pair: pair[0])
    missing = next((name for name in wanted if name not in part.names and name not in optional), None)
    problems = [f"lacks {printable(missing)}"] if missing is not None else []
    problems += [f"has the unexpected {printable(part.strange[0])}"] if part.strange else []
    where = f" (under {printable(part.label)})" if part.label else ""
    others = [label for entry in contents.entries if (label := ".".join(entry.path)) and entry is not part.entry]
    also = f"; tensors lie under {_listed(others)} too (key=...)" if others else ""
    raise refusal(
        contents.path,
        f"{' and '.join(problems)}{where}: is architecture= the network that it was saved from?{also}",
    )


def _parts(entry: Entry, wanted: Shapes, optional: frozenset[str], wrapped: bool) -> Iterator[tuple[int, Part]]:
    """Each prefix of an entry below which a name of the network lies, with how many of those that must be there do.

    Where there is none, the entry whole.
    """
    short = _dropped if wrapped else str
    inner = {short(name): name for name in wanted}
    given: dict[str, str] = {}
    twice = set()
    for name in (*entry.tensors, *entry.others):
        if given.setdefault(short(name), name) != name:
            twice.add(short(name))
    if len(inner) < len(wanted):
        return
    longest = max(map(len, inner), default=0)
    hits: Counter[str] = Counter()
    for name in given:
        for prefix in _prefixes(name, longest):
            own = inner.get(name[len(prefix) :])
            if own is not None:
                hits[prefix] += own not in optional
    ordered = sorted(given)
    for prefix, count in (hits or {"": 0}).items():
        span = ordered[bisect_left(ordered, prefix) : bisect_left(ordered, prefix + LAST)]
        below = {name.removeprefix(prefix): given[name] for name in span}
        if wrapped and any(prefix + name in twice for name in below):
            continue
        names = {own: below[name] for name, own in inner.items() if name in below}
        strange = tuple(name for name in below if name not in inner)
        yield count, Part(entry, prefix, names, strange)


def _prefixes(name: str, longest: int) -> Iterator[str]:
    """Beginnings of a name, "" or up to a dot, that leave no more than so many letters."""
    if len(name) <= longest:
        yield ""
    dot = name.rfind(".")
    while dot >= 0 and len(name) - dot - 1 <= longest:
        yield name[: dot + 1]
        dot = name.rfind(".", 0, dot)


def _dropped(name: str) -> str:
    """A name without the words of wrappers."""
    return ".".join(word for word in name.split(".") if word not in WRAPPERS)


def _rank(part: Part) -> tuple[int, ...]:
    """Among parts: none before any, usual words before others."""
    words = part.label.split(".") if part.label else []
    return tuple(USUAL.index(word) if word in USUAL else len(USUAL) for word in words)


def _inside(part: Part, others: Iterable[Part]) -> bool:
    """Whether a part lies among the names of a network that is another part: then that one has names too many."""
    same = [other.prefix for other in others if other.entry is part.entry and other.prefix != part.prefix]
    return any(part.prefix.startswith(prefix) for prefix in same)


def _shapes_fit(part: Part, wanted: Shapes) -> bool:
    tensors = part.entry.tensors
    return all(name in tensors and tensors[name].shape == wanted[own] for own, name in part.names.items())


def _told(contents: Contents, part: Part, whole: Sequence[Part]) -> list[str]:
    """What was read and what else is there, a line for each kind of it."""
    other = [one.label or "the outermost names" for one in whole if one is not part and one.label != part.label]
    hosts = [one.entry for one in whole]
    tensors = [label for entry in contents.entries if entry not in hosts and (label := ".".join(entry.path))]
    used = {name for one in whole if one.entry is part.entry for name in one.names.values()}
    left = [".".join((*part.entry.path, name)) for name in part.entry.tensors if name not in used]
    left += [name for entry in contents.entries if not entry.path and entry is not part.entry for name in entry.tensors]
    kinds = {
        "read": [part.label] if part.label else [],
        "would fit too, not read": other,
        "other tensors, not read": [*tensors, *left],
        "not read, objects": contents.unread,
    }
    return [f"{kind}: {_listed(names)}" for kind, names in kinds.items() if names]


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    shown = ", ".join(printable(name, 100) for name in every[:MOST_TOLD])
    return f"{shown} and {len(every) - MOST_TOLD} more" if len(every) > MOST_TOLD else shown

"""Of how many images the numbers of a table are made, and of which. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Metric to ``probe``, ``images`` (how many) and ``data`` (which), as ``Measured.counts`` gives them.
Counts = Mapping[str, Mapping[str, Any]]

SPOKEN = {
    "fitted": "of those fitted on",
    "injected": "attacked by the injection",
    "restored": "attacked by the injection",
    "given": "as given",
}


def spoken(counts: Counts, metrics: Iterable[str] | None = None) -> str:
    """The number of images of each probe, by what they are.

    Args:
        counts: Of all metrics.
        metrics: Those that are told of; None for all.

    >>> spoken({"test_loss": {"probe": "test", "images": 450, "data": "test"}})
    'test 450 (test split)'
    """
    found: dict[str, dict[str, None]] = {}
    for name in counts if metrics is None else metrics:
        if name in counts:
            count = counts[name]
            found.setdefault(count["data"], {})[f"{count['probe']} {count['images']}"] = None
    return "; ".join(f"{', '.join(probes)} ({SPOKEN.get(data, f'{data} split')})" for data, probes in found.items())


def line(named: Sequence[tuple[str, str]]) -> str:
    """The sentence below a table, once for all paths of the same images.

    Args:
        named: Name of a path and what ``spoken`` says of it.
    """
    said: dict[str, list[str]] = {}
    for name, text in named:
        said.setdefault(text, []).append(name)
    if len(said) == 1:
        return f"Images: {next(iter(said))}."
    return "Images: " + ". ".join(f"{', '.join(names)}: {text}" for text, names in said.items()) + "."

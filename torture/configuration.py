"""Every key of the configuration with values that nobody would mean: each is refused in one line, or does no harm."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from mcr.app import composition, differences, overrides, run, shorthands
from mcr.errors import InputError

VALUES = (
    *("null", "[]", "{}", "text", "''", "'../../x'", "'${oc.env:HOME}'", "'${nothing}'", "'${training.epochs}'"),
    *("-1", "0", "1", "2", "1.5", "-0.5", "nan", "inf", "1e30", "1000000000000", "true", "false"),
    *("[1,2]", "[null]", "[text]", "{a: 1}", "'1/2'", "'2024-01-01'", "x" * 10_000),
)
LONGEST = 20  # seconds of one value
TINY = (
    *("dataset=synthetic", "dataset.image_size=8", "dataset.channels=1", "dataset.images=160"),
    *("dataset.split.test=32", "architecture=mlp", "architecture.hidden=[16]", "debug=default", "runtime.threads=1"),
)
# What is not in the main job: chosen, so that their keys are tried as well.
CHOICES = (
    ("report", ()),
    ("report", ("ends=backdoored", "backdoor=badnets", "backdoor.size=2")),
    ("report", ("ends=injected", "injection=fault_sneaking", "optimizer=adamw", "schedule=cosine")),
    ("report", ("ends=robust_robust", "objective=adversarial", "curve=polychain", "transform=magnitude")),
    ("repair", ("ends=backdoored", "backdoor=badnets", "backdoor.size=2")),
)


class Kept(composition.Composer):
    """What was chosen is composed once, not once a value."""

    known_to_all: ClassVar[dict[tuple[str, ...], composition.Chosen]] = {}
    trees_of_all: ClassVar[dict[tuple[str, ...], Any]] = {}
    read_by_all: ClassVar[dict[str, Any]] = {}

    def __enter__(self) -> composition.Composer:
        super().__enter__()
        self.known, self.trees = self.known_to_all, self.trees_of_all
        self.loader.repository.read = self.read_by_all
        return self


class HangError(Exception):
    """A value that nothing answers."""


@contextlib.contextmanager
def at_most(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def planned(verb: str, words: list[str]) -> None:
    """Compose, plan and check a command against an empty store, as the command line does before it starts."""
    args = overrides.parse_arguments(words)
    args.overrides = shorthands.imported_architecture(args.overrides)
    run.check(overrides.compose_jobs(composition.conf_folder(), args, verb))


def outcome(verb: str, words: list[str]) -> tuple[str, str]:
    """What became of a command, and what was said."""
    try:
        with at_most(LONGEST):
            planned(verb, words)
    except InputError as error:
        text = str(error)
        return ("refused" if "\n" not in text and len(text) < 1000 else "many lines"), text
    except HangError:
        return "hang", ""
    except OSError as error:
        return "failed", f"{type(error).__name__}: {error}"
    except Exception as error:
        return "traceback", f"{type(error).__name__}: {error}"
    return "clean", ""


def main(seconds: float, seed: int, log: Path | None) -> int:
    overrides.register_resolvers()
    overrides.Composer = Kept
    counts: Counter[str] = Counter()
    lines = []
    with tempfile.TemporaryDirectory() as root:
        os.chdir(root)
        trials = []
        for verb, chosen in CHOICES:
            words = [*TINY, *chosen, f"paths.root={root}/store"]
            args = overrides.parse_arguments(words)
            tree = overrides.compose_jobs(composition.conf_folder(), args, verb).jobs[0].config
            found = [key for key in differences.keys(tree) if not key.startswith("choices")]
            trials += [(verb, words, key, value) for key in found for value in VALUES]
        known = set()
        trials = [t for t in trials if not ((t[0], t[2], t[3]) in known or known.add((t[0], t[2], t[3])))]
        random.Random(seed).shuffle(trials)
        print(f"{len(trials)} trials")
        end = time.monotonic() + seconds
        for verb, words, key, value in trials:
            if time.monotonic() > end:
                break
            kind, said = outcome(verb, [*words, f"{key}={value}"])
            counts[kind] += 1
            lines.append(f"{kind}\t{verb} {key}={value[:60]}\t{said[:300]}")
    if log:
        log.write_text("\n".join(sorted(lines)), encoding="utf-8")
    print(dict(counts))
    return 0


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--seconds", type=float, default=60)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--log", type=Path)
    a = p.parse_args()
    sys.exit(main(a.seconds, a.seed, a.log))

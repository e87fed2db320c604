"""Every key of the configuration with values that nobody would mean: each is refused in one line, or does no harm.

Nothing is trained: a command is composed, planned and checked against an empty store, as before each run. Which keys
and values come is drawn by a seed; all of them take an hour.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from mcr.app import cli, composition, differences, faults, overrides, shorthands
from mcr.errors import InputError
from torture.tally import Tally, within

VALUES = (
    *("null", "[]", "{}", "text", "''", "'../../x'", "'${oc.env:HOME}'", "'${nothing}'", "'${training.epochs}'"),
    *("-1", "0", "1", "2", "1.5", "-0.5", "nan", "inf", "1e30", "1000000000000", "true", "false"),
    *("[1,2]", "[null]", "[text]", "{a: 1}", "'1/2'", "'2024-01-01'", "x" * 10_000),
)
LONGEST = 60  # seconds of one value
TINY = (
    *("dataset=synthetic", "dataset.image_size=8", "dataset.channels=1", "dataset.images=160"),
    *("dataset.split.test=32", "architecture=mlp", "architecture.hidden=[16]", "debug=default", "runtime.threads=1"),
)
# Verbs and choices, so that the keys of more options than those of the main job are tried.
CHOICES = (
    ("report", ()),
    ("report", ("ends=backdoored", "backdoor=badnets", "backdoor.size=2")),
    ("report", ("ends=injected", "injection=fault_sneaking", "optimizer=adamw", "schedule=cosine")),
    ("report", ("ends=robust_robust", "objective=adversarial", "curve=polychain", "transform=magnitude")),
    ("repair", ("ends=backdoored", "backdoor=badnets", "backdoor.size=2")),
)
# What may not happen. "net" is the last net's line: right for the user, and a check that is missing.
WRONG = ("traceback", "fault", "several lines", "hang")
SAID = {"net": "refused by the last net", "refused": "refused in one line"}


class HangError(BaseException):
    """A value that is not answered in time; not for the last net."""


class Kept(composition.Composer):
    """What was chosen is composed once, not once a value."""

    chosen: ClassVar[dict[tuple[str, ...], composition.Chosen]] = {}
    base: ClassVar[dict[tuple[str, ...], Any]] = {}
    files: ClassVar[dict[str, Any]] = {}

    def __enter__(self) -> composition.Composer:
        super().__enter__()
        self.known, self.trees, self.loader.repository.read = self.chosen, self.base, self.files
        return self


@dataclass(frozen=True)
class Trial:
    """A command with one odd word at its end."""

    verb: str
    words: tuple[str, ...]
    key: str
    value: str

    @property
    def name(self) -> tuple[str, str, str]:
        return self.verb, self.key, self.value

    def outcome(self) -> tuple[str, str]:
        """What became of it, and what was said."""
        try:
            with _at_most(LONGEST), contextlib.redirect_stdout(io.StringIO()):
                args = overrides.parse_arguments([*self.words, f"{self.key}={self.value}"])
                args.overrides = shorthands.imported_architecture(shorthands.paths(args.overrides, swept=False))
                cli.planned(args, self.verb, "")
        except InputError as error:
            text = str(error)
            if "\n" in text:  # a long line is cut where it is printed
                return "several lines", text
            return ("net" if faults.HOW in text else "refused"), text
        except HangError:
            return "hang", ""
        except OSError as error:
            return "refused", str(error)
        except Exception as error:
            return ("fault" if faults.HOW in str(error) else "traceback"), f"{type(error).__name__}: {error}"
        return "taken", ""


@contextlib.contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def trials(root: str, seed: int) -> list[Trial]:
    """Each key and value once, in a random order."""
    found: dict[tuple[str, str, str], Trial] = {}
    for verb, chosen in CHOICES:
        words = (*TINY, *chosen, f"paths.root={root}/results")
        args = overrides.parse_arguments(list(words))
        tree = overrides.compose_jobs(composition.conf_folder(), args, verb).jobs[0].config
        keys = [key for key in differences.keys(tree) if key.partition(".")[0] not in ("choices", "verb")]
        every = [Trial(verb, words, key, value) for key in keys for value in VALUES]
        found |= {trial.name: trial for trial in every if trial.name not in found}
    order = list(found.values())
    random.Random(seed).shuffle(order)
    return order


def campaign(seconds: float, seed: int) -> Tally:
    """As many values as the time allows."""
    tally = Tally("configuration")
    overrides.register_resolvers()
    here, composer = os.getcwd(), overrides.Composer
    overrides.Composer = Kept  # type: ignore[misc]
    try:
        with tempfile.TemporaryDirectory() as root:
            os.chdir(root)
            for trial in within(seconds, trials(root, seed)):
                kind, said = trial.outcome()
                name = f"{trial.verb} {trial.key}={trial.value[:60]}"
                tally.add(name, SAID.get(kind, kind), f"{kind} {said[:300]!a}" if kind in WRONG else "")
            os.chdir(here)
    finally:
        overrides.Composer = composer  # type: ignore[misc]
    return tally

"""Checks the command line before Hydra starts: one clear line for a mistake, and nothing written."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NoReturn, cast

from hydra import compose
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mcr.app import differences
from mcr.app.composition import Composed, Composer
from mcr.datasets import folder
from mcr.errors import InputError
from mcr.foreign import shards
from mcr.store import build, identity

# Places for choices beside those of the defaults list.
ADDED = (
    *("endpoint@endpoints.*", "probe@probes.*", "reference@references.*", "edit@endpoints.*.edits.*"),
    *("attack@probes.*.attack", "attack@probes.*.attacks.*"),
)
VIEW_FLAGS = ("cfg", "info", "help", "hydra_help", "shell_completion", "experimental_rerun")


def register_resolvers() -> None:
    """Interpolations that the configuration uses: contents of files and folders as identity, and numbers of entries."""
    # Plain functions: launchers send the resolvers to their workers, and what a decorator made cannot be pickled.
    OmegaConf.register_new_resolver("weights_digest", shards.weights_digest, replace=True)
    OmegaConf.register_new_resolver("folder_fingerprint", folder.image_folder_fingerprint, replace=True)
    OmegaConf.register_new_resolver("tiny_imagenet_fingerprint", folder.tiny_imagenet_fingerprint, replace=True)
    OmegaConf.register_new_resolver("count", len, replace=True)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Hydra's own options. Raises InputError for a mistyped one, instead of printing the usage."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        words = re.findall(r"--[\w-]+", message)
        hint = f"; {build.nearest(words[0], sorted(parser._option_string_actions))}" if words else ""
        raise InputError(f"{message}{hint}")

    parser.error = refuse  # type: ignore[method-assign]
    parser.allow_abbrev = False
    return parser.parse_intermixed_args(arguments)


def is_view(args: argparse.Namespace) -> bool:
    """Whether Hydra will only print something."""
    return any(getattr(args, flag) for flag in VIEW_FLAGS)


@dataclass(frozen=True)
class Job:
    """One job of a command: its overrides and its resolved configuration."""

    overrides: tuple[str, ...]
    config: dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What a command line asks for; ``swept`` where it is a multirun."""

    jobs: tuple[Job, ...]
    swept: bool


def compose_jobs(conf: Path, args: argparse.Namespace, verb: str) -> Request:
    """Every job that a command line asks for, composed and checked, with the verb as its goal.

    Raises:
        InputError: For an unknown key, group, option or a value of the wrong type, naming the nearest valid names.
    """
    with Composer(conf, args) as composer, _explained(conf, args.overrides):
        whole = composer.first([*args.overrides, f"verb={verb}"])
        mode = whole.chosen.hydra.mode
        swept = args.multirun or (mode is not None and "MULTIRUN" in str(mode))
        if not swept:
            for word in composer.several(args.overrides):
                raise InputError(f"{word} names several values: add -m to run them all")
        checker = _Checker(composer)
        found = []
        for line in composer.jobs(whole.chosen, args.overrides) if swept else [args.overrides]:
            words = [*line, f"verb={verb}"]
            composed = composer.compose(words) if swept else whole
            checker.check(composed, words)
            found.append(Job(tuple(line), with_choices(plain(composed.config), composed.chosen.choices)))
        return Request(tuple(found), bool(swept))


def check_names(conf: Path, args: argparse.Namespace) -> DictConfig:
    """Hydra's own part of the configuration; values of the rest may still be missing.

    Raises:
        InputError: For an unknown key, group or option.
    """
    with Composer(conf, args) as composer, _explained(conf, args.overrides):
        return composer.first(args.overrides).chosen.hydra


@contextmanager
def _explained(conf: Path, overrides: list[str]) -> Iterator[None]:
    """Hydra's errors as one line with the nearest valid names."""
    try:
        yield
    except InputError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise InputError(_one_line(error, conf, overrides)) from error


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain containers. Raises InputError for a missing or unresolvable value."""
    try:
        tree = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        cause = error.__cause__ or error.__context__
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            raise InputError(f"{error.full_key}: {cause}") from None
        key = getattr(error, "full_key", None) or "configuration"
        if "Missing mandatory value" in str(error):
            raise InputError(f"{key} has no value: add {key}=... to the command") from None
        raise InputError(f"{key}: {str(error).splitlines()[0]}") from None
    return cast(dict[str, Any], identity.numbers(tree))


def with_choices(config: dict[str, Any], choices: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with the names of the options that were chosen, by group; they are for people only."""
    named = {str(group): str(option) for group, option in choices.items() if not str(group).startswith("hydra/")}
    # An import path stands for the option that takes any.
    if named.get("architecture") == "imported":
        named["architecture"] = str(config["architecture"]["_target_"]).rsplit(".", 1)[-1]
    return {**config, "choices": named}


class _Checker:
    """Compares configurations with those of their chosen options alone: keys must exist, types must fit."""

    def __init__(self, composer: Composer) -> None:
        self.composer = composer
        self.compared: set[tuple[str, ...]] = set()  # choices of which a line was compared whole

    def check(self, composed: Composed, line: list[str]) -> None:
        """Raises InputError for a key that nothing reads, or a value of another type than the YAML's."""
        chosen = composed.chosen
        for word in line:
            if word.startswith("+") and "@" in word.partition("=")[0]:
                _check_added(word[1:].partition("=")[0], chosen.choices)
        before = self.composer.base_tree(chosen)
        if chosen.words not in self.compared or any(isinstance(new, dict) for new in composed.values.values()):
            self.compared.add(chosen.words)
            after = OmegaConf.to_container(composed.config, resolve=False)
            changed = differences.changes(before, after, before)
        else:
            # Only values differ from a line that was compared whole.
            changed = ((key, differences.at(before, key), new) for key, new in composed.values.items())
        for key, old, new in changed:
            if old is differences.ABSENT:
                raise InputError(f"nothing reads {key}; {build.nearest(key, list(differences.keys(before)))}")
            if not differences.fits(key, old, new):
                raise InputError(f"{key}={new} is no {differences.kind(old)}: the configuration has {key}={old}")


def _check_added(group: str, choices: Mapping[str, Any]) -> None:
    """Raises InputError for a choice at a place that nothing reads, or within a probe or network that is not there."""
    if not any(fnmatch(group, place) for place in ADDED):
        raise InputError(f"nothing reads +{group}; what may be added is {' or '.join(ADDED)}")
    first, *others = group.partition("@")[2].split(".")
    whole, kind = f"{first}.{others[0]}", first.removesuffix("s")
    if len(others) > 1 and f"{kind}@{whole}" not in choices:
        known = [name.partition("@")[2] for name in choices if name.startswith(f"{kind}@{first}.")]
        raise InputError(f"nothing reads +{group}: there is no {whole}; {build.nearest(whole, known)}")


def _one_line(error: Exception, conf: Path, overrides: list[str]) -> str:
    """Hydra's message in one line, with the nearest valid names."""
    text = str(error)
    groups = sorted(str(path.relative_to(conf)) for path in conf.rglob("*") if path.is_dir())
    option = re.search(r"Could not find '([\w/.@-]+)/([^/']+)'", text)
    if option:
        group, name = option.groups()
        names = sorted(path.stem for path in (conf / group).glob("*.yaml"))
        return f"{group}={name}: there is no such option; {build.nearest(name, names)}"
    group_match = re.search(r"Could not override '([^']+)'", text) or re.search(r"could not override '([^']+)'", text)
    unknown = re.search(r"Key '([^']+)' is not in struct\s+full_key: (\S+)", f"{text} {error.__cause__ or ''}")
    if unknown or group_match:
        wanted = unknown.group(2) if unknown else group_match.group(1)  # type: ignore[union-attr]
        tree = OmegaConf.to_container(compose("config"), resolve=False)
        places = ["endpoint@endpoints.start", "endpoint@endpoints.end", "reference@references.straight"]
        hint = build.nearest(wanted, [*differences.keys(tree), *groups, *places])
        extra = f" (an argument of your own network: +{wanted}=...)" if wanted.startswith("architecture.") else ""
        return f"there is no {wanted} to override; {hint}{extra}"
    first = next(line for line in text.splitlines() if line.strip())
    return f"{first} (in: {' '.join(overrides)})"

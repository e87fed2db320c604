"""Checks the command line before Hydra starts: one clear line for a mistake, and nothing written."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mcr.app import added, differences, hints, trust
from mcr.app.composition import UNKNOWN, Composed, Composer
from mcr.app.given import given
from mcr.app.sweepers import searches
from mcr.datasets import folder
from mcr.errors import InputError
from mcr.foreign import shards
from mcr.store import build, identity

# Sections where a value that only the job knows may stand: no number depends on them, nor where results are looked for.
LATE = ("logger.", "report.")
SEARCHES = (
    "a sweeper that searches needs the number to search by: optimized_metric=robust_loss.interior, or another one"
)
VIEW_FLAGS = ("cfg", "info", "help", "hydra_help", "shell_completion", "experimental_rerun")


def register_resolvers() -> None:
    """Interpolations that the configuration uses: contents of files and folders as identity, and numbers of entries."""
    # Plain functions: launchers send the resolvers to their workers, and what a decorator made cannot be pickled.
    OmegaConf.register_new_resolver("weights_digest", _weights_digest, replace=True)
    OmegaConf.register_new_resolver("folder_fingerprint", _folder_fingerprint, replace=True)
    OmegaConf.register_new_resolver("tiny_imagenet_fingerprint", _tiny_imagenet_fingerprint, replace=True)
    OmegaConf.register_new_resolver("count", len, replace=True)


def _weights_digest(path: str, *most_megabytes: float) -> str:
    return shards.weights_digest(os.path.expanduser(path), *most_megabytes)


def _folder_fingerprint(root: str, *rest: Any) -> str:
    return folder.image_folder_fingerprint(os.path.expanduser(root), *rest)


def _tiny_imagenet_fingerprint(root: str, *rest: Any) -> str:
    return folder.tiny_imagenet_fingerprint(os.path.expanduser(root), *rest)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Hydra's own options. Raises InputError for a mistyped one, instead of printing the usage."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        words = re.findall(r"--[\w-]+", message)
        hint = f"; {build.nearest(words[0], sorted(parser._option_string_actions))}" if words else ""
        raise InputError(f"{message}{hint}")

    parser.error = refuse  # type: ignore[method-assign]
    parser.allow_abbrev = False
    args = parser.parse_intermixed_args(arguments)
    for flag in ("config_name", "config_path"):
        if getattr(args, flag):
            name = f"--{flag.replace('_', '-')}"
            raise InputError(f"{name}: mcr has one configuration; --config-dir DIR adds groups to it")
    return args


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
    """What a command line asks for.

    Attributes:
        words: Its overrides, as typed.
        given: The same as Hydra is to get them, see ``mcr.app.given``.
        jobs: All; where a sweeper searches, some that it may make.
        swept: Whether Hydra starts several.
        searched: Whether a sweeper chooses jobs by what earlier ones found.
        launcher: Hydra's part of that name, unresolved.
    """

    words: tuple[str, ...]
    given: tuple[str, ...]
    jobs: tuple[Job, ...]
    swept: bool
    searched: bool
    launcher: Mapping[str, Any]


def compose_jobs(conf: Path, args: argparse.Namespace, verb: str) -> Request:
    """Every job that a command line asks for, composed and checked, with the verb as its goal.

    Raises:
        InputError: For an unknown key, group, option or a value of the wrong type, naming the nearest valid names.
    """
    for word in args.overrides:
        if word.partition("=")[0].lstrip("+") == "verb":
            raise InputError(f"{word}: the verb is a word of its own: mcr {word.partition('=')[2] or verb} ...")
    with Composer(conf, args) as composer, hints.explained(conf, args.overrides):
        whole = composer.first([*args.overrides, f"verb={verb}"])
        trust.check(whole.chosen.hydra)
        mode = whole.chosen.hydra.mode
        swept = args.multirun or (mode is not None and "MULTIRUN" in str(mode))
        if not swept and (word := next(composer.several(args.overrides), None)) is not None:
            raise InputError(f"{word} names several values: add -m to run them all")
        searched = searches(whole.chosen.hydra)
        if searched and not swept:
            raise InputError("this command chooses a sweeper that searches: add -m")
        checker = _Checker(composer)
        found = []
        for number, line in enumerate(composer.jobs(whole.chosen, args.overrides) if swept else [args.overrides]):
            composer.number = number if swept else None
            words = [*line, f"verb={verb}"]
            composed = composer.compose(words) if swept else whole
            config = checker.check(composed, words)
            if searched and config["optimized_metric"] is None:
                raise InputError(SEARCHES)
            found.append(Job(tuple(line), with_choices(config, composed.chosen.choices)))
        launcher = cast(dict[str, Any], OmegaConf.to_container(whole.chosen.hydra.launcher, resolve=False))
        taken = given(composer, args.overrides) if swept else args.overrides
        return Request(tuple(args.overrides), tuple(taken), tuple(found), bool(swept), searched, launcher)


def check_names(conf: Path, args: argparse.Namespace) -> DictConfig:
    """Hydra's own part; of the rest values may still be missing. Raises InputError for an unknown name."""
    with Composer(conf, args) as composer, hints.explained(conf, args.overrides):
        own = composer.first(args.overrides).chosen.hydra
        trust.check(own)
        return own


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
    return cast(dict[str, Any], _placed(identity.numbers(tree)))


def _placed(tree: Any, where: str = "") -> Any:
    """A configuration with the home folder for ``~`` in its paths."""
    if isinstance(tree, Mapping):
        return {key: _placed(value, f"{where}.{key}" if where else key) for key, value in tree.items()}
    is_path = isinstance(tree, str) and tree.startswith("~") and identity.is_place(where)
    return os.path.expanduser(tree) if is_path else tree


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

    def check(self, composed: Composed, line: list[str]) -> dict[str, Any]:
        """The resolved configuration. Raises InputError for a key that nothing reads, or a value of another type."""
        chosen = composed.chosen
        for word in line:
            key, _, option = word.partition("=")
            group, is_mapping = key.lstrip("+"), option.startswith("{")
            exists = "@" in group or self.composer.loader.repository.group_exists(group)
            if key.startswith("+") and exists and not is_mapping:
                added.check(group, chosen.choices)
        written, meant = self.composer.base_trees(chosen)
        if chosen.words not in self.compared or any(isinstance(new, dict) for new in composed.values.values()):
            self.compared.add(chosen.words)
            after = OmegaConf.to_container(composed.config, resolve=False)
            changed = list(_read(differences.changes(written, after, written), written))
        else:
            # Only values differ from a line that was compared whole.
            new = ((key, differences.at(written, key), value) for key, value in composed.values.items())
            changed = list(_read(new, written))
        config = plain(composed.config)
        _check_known(config)
        for key, _, _ in changed:
            if unheard := differences.unheard(config, key):
                raise InputError(unheard)
            # A value that is an interpolation may be a whole mapping.
            found = differences.changes(differences.at(meant, key), differences.at(config, key), meant, key)
            for name, old, value in _read(found, meant):
                if not differences.fits(name, old, value):
                    raise InputError(differences.refusal(name, old, value))
        return config


def _check_known(tree: Any, where: str = "") -> None:
    """Raises InputError for a value that depends on what Hydra knows in the job alone, where a plan must know it."""
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in parts:
        _check_known(value, f"{where}.{key}" if where else str(key))
    if isinstance(tree, str) and UNKNOWN in tree and not where.startswith(LATE):
        raise InputError(
            f"{where}: of ${{hydra:...}} a plan knows job.num, in a sweep (-m), and no more; the rest may stand below "
            f"{' and '.join(section.rstrip('.') for section in LATE)}"
        )


def _read(changed: Iterable[tuple[str, Any, Any]], tree: Any) -> Iterator[tuple[str, Any, Any]]:
    """The differences. Raises InputError for a key that is not in the tree."""
    for key, old, new in changed:
        if old is differences.ABSENT:
            raise InputError(f"nothing reads {key}; {build.nearest(key, list(differences.keys(tree)))}")
        yield key, old, new

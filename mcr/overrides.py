"""Checks the command line before Hydra starts: one clear line for a mistake, and nothing written."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, cast

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from mcr import build, differences, identity
from mcr.datasets import folder
from mcr.errors import InputError
from mcr.shorthands import quoted

OVERLAYS = ("ends", "experiment", "debug")  # groups whose options only override others
# Places for choices beside those of the defaults list.
ADDED = (
    *("endpoint@endpoints.*", "probe@probes.*", "reference@references.*", "edit@endpoints.*.edits.*"),
    "attack@probes.*.attacks.*",
)
VIEW_FLAGS = ("cfg", "info", "help", "hydra_help", "shell_completion", "experimental_rerun")


def register_resolvers() -> None:
    """Interpolations that the configuration uses: contents of files and folders as identity, and numbers of entries."""
    # Plain functions: launchers send the resolvers to their workers, and what a decorator made cannot be pickled.
    OmegaConf.register_new_resolver("file_digest", identity.file_digest, replace=True)
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
    with _Composer(conf, args) as extra, _explained(conf, args.overrides):
        whole = _compose_first([*extra, *args.overrides, f"verb={verb}"])
        swept = args.multirun or (whole.hydra.mode is not None and "MULTIRUN" in str(whole.hydra.mode))
        lines = _sweep(whole, args.overrides) if swept else [args.overrides]
        if not swept:
            _refuse_choices(args.overrides)
        plain_trees = cache(_of_choices)
        found = []
        for line in lines:
            words = [*extra, *line, f"verb={verb}"]
            cfg = compose("config", overrides=words, return_hydra_config=True) if swept else whole
            choices = dict(cfg.hydra.runtime.choices)
            found.append(Job(tuple(line), with_choices(plain(_checked(cfg, words, plain_trees)), choices)))
        return Request(tuple(found), bool(swept))


def check_names(conf: Path, args: argparse.Namespace) -> DictConfig:
    """The whole configuration, Hydra's part included; values may still be missing.

    Raises:
        InputError: For an unknown key, group or option.
    """
    with _Composer(conf, args) as extra, _explained(conf, args.overrides):
        return _compose_first([*extra, *args.overrides])


@contextmanager
def _explained(conf: Path, overrides: list[str]) -> Iterator[None]:
    """Hydra's errors as one line with the nearest valid names."""
    try:
        yield
    except InputError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise InputError(_one_line(error, conf, overrides)) from error


def _sweep(whole: DictConfig, overrides: list[str]) -> list[list[str]]:
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    params = [f"{key}={value}" for key, value in (whole.hydra.sweeper.get("params") or {}).items()]
    return BasicSweeper.split_arguments(parser.parse_overrides([*params, *overrides]), None)[0]


def _refuse_choices(overrides: list[str]) -> None:
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.is_sweep_override():
            raise InputError(f"{override.input_line} names several values: add -m to run them all")


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


class _Composer:
    """Hydra's compose API over this project's configuration folder, closed again afterwards.

    Entering gives the overrides that stand for ``--config-dir``.
    """

    def __init__(self, conf: Path, args: argparse.Namespace) -> None:
        self.conf, self.extra = conf, args.config_dir

    def __enter__(self) -> list[str]:
        GlobalHydra.instance().clear()
        initialize_config_dir(str(self.conf), version_base="1.3", job_name="mcr").__enter__()
        if self.extra is None:
            return []
        if not Path(self.extra).is_dir():
            raise InputError(f"--config-dir {self.extra}: there is no such folder")
        return [f"hydra.searchpath=[{quoted(f'file://{Path(self.extra).absolute()}')}]"]

    def __exit__(self, *_: object) -> None:
        GlobalHydra.instance().clear()


def _compose_first(overrides: list[str]) -> DictConfig:
    """The whole configuration, Hydra's part included, at the first value of every choice."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    single = []
    for override in parser.parse_overrides(overrides):
        choice = override.is_sweep_override() and override.is_discrete_sweep()
        first = next(iter(override.sweep_string_iterator())) if choice else None
        single.append(f"{override.get_key_element()}={first}" if choice else str(override.input_line))
    return compose("config", overrides=single, return_hydra_config=True)


def _checked(cfg: DictConfig, line: list[str], of_choices: Callable[..., Any]) -> DictConfig:
    """The job's configuration, compared with that of its chosen options alone: keys must exist, types must fit.

    Args:
        cfg: What the line gives, Hydra's part included, which is taken off.
        line: The job's overrides.
        of_choices: See the function of that name; jobs of a sweep often choose the same.
    """
    choices = cast(dict[str, Any], OmegaConf.to_container(cfg.hydra.runtime.choices))
    kept = {g: o for g, o in choices.items() if g not in OVERLAYS and not g.startswith("hydra/")}
    for word in line:
        group = word[1:].partition("=")[0]
        if word.startswith("+") and "@" in group and not any(fnmatch(group, place) for place in ADDED):
            raise InputError(f"nothing reads +{group}; what may be added is {' or '.join(ADDED)}")
    added = set(kept) - set(_defaults())
    with open_dict(cfg):
        del cfg["hydra"]
    overlaid = any(choices.get(group) for group in OVERLAYS)
    pairs = [word.lstrip("+").partition("=") for word in line]
    if not overlaid and all(key in {*kept, "verb"} and not value.lstrip().startswith("{") for key, _, value in pairs):
        return cfg  # nothing but choices; a mapping would be values for what a choice of that name gives
    plain_choices = tuple(f"{group}={option}" for group, option in kept.items() if group not in added)
    kept_words = tuple(word for word in line if word.startswith(("~", "hydra.searchpath=")))
    before = of_choices(plain_choices, tuple(sorted((g, str(kept[g])) for g in added)), kept_words)
    after = OmegaConf.to_container(cfg, resolve=False)
    for key, old, new in differences.changes(before, after, before):
        if old is differences.ABSENT:
            raise InputError(f"nothing reads {key}; {build.nearest(key, list(differences.keys(before)))}")
        if not differences.fits(key, old, new):
            raise InputError(f"{key}={new} is no {differences.kind(old)}: the configuration has {key}={old}")
    return cfg


@cache
def _defaults() -> tuple[str, ...]:
    """The places of the defaults list that have a choice."""
    return tuple(map(str, compose("config", overrides=[], return_hydra_config=True).hydra.runtime.choices))


def _of_choices(chosen: tuple[str, ...], added: tuple[tuple[str, str], ...], others: tuple[str, ...]) -> Any:
    """What chosen options alone give, as plain containers with their interpolations.

    Args:
        chosen: At places of the defaults list.
        added: Group and option at further places; those that a chosen option brings itself are not added twice.
        others: Words that take choices away, or say where options lie.
    """
    words = [*chosen, *others]
    while True:
        cfg = compose("config", overrides=words, return_hydra_config=True)
        known = cfg.hydra.runtime.choices
        left = [(group, option) for group, option in added if str(known.get(group)) != option]
        if not left:
            break
        # An endpoint before its edits and its objective: it may bring them itself.
        group, option = min(left, key=lambda pair: pair[0].count("."))
        words.append(f"{'' if group in known else '+'}{group}={option}")
    with open_dict(cfg):
        del cfg["hydra"]
    return OmegaConf.to_container(cfg, resolve=False)


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
        tree = OmegaConf.to_container(compose("config", overrides=[]), resolve=False)
        places = ["endpoint@endpoints.start", "endpoint@endpoints.end", "curve@reference"]
        hint = build.nearest(wanted, [*differences.keys(tree), *groups, *places])
        extra = f" (an argument of your own network: +{wanted}=...)" if wanted.startswith("architecture.") else ""
        return f"there is no {wanted} to override; {hint}{extra}"
    first = next(line for line in text.splitlines() if line.strip())
    return f"{first} (in: {' '.join(overrides)})"

"""Hydra's composition of this project's configuration, many times in one command."""

from __future__ import annotations

import argparse
import copy
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository, IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, ListConfig, OmegaConf, base
from omegaconf.errors import OmegaConfBaseException

from mcr.app import sweepers
from mcr.app.differences import TEXT
from mcr.app.shorthands import quoted
from mcr.errors import InputError
from mcr.store import identity

PARSE = vars(base)["parse"]  # from the text of an interpolation to its syntax tree, which nobody changes
CHOICES = defaults_list._create_interpolation_map  # what an interpolation in a defaults list may name
OF_CONTENT = re.compile(r"\$\{\w+_(digest|fingerprint):")  # interpolations that read files
OVERLAYS = ("ends", "experiment", "hparams_search", "debug")  # groups whose options only override others


UNKNOWN = "<known when the job runs>"  # stands for a value of Hydra that no plan can know


def conf_folder() -> Path:
    """The checkout's ``conf/`` where there is one, else the copy that the wheel carries."""
    package = Path(__file__).resolve().parent.parent
    checkout = package.parent / "conf"
    return checkout if (package.parent / "pyproject.toml").is_file() and checkout.is_dir() else package / "conf"


def _resolved(tree: Any) -> Any:
    """Plain containers with the values of interpolations, and TEXT for those that only a user or the data give."""
    if isinstance(tree, ListConfig):
        return OmegaConf.to_container(tree, resolve=True)
    if not isinstance(tree, DictConfig):
        return tree
    found = {}
    for key in tree:
        written = tree._get_node(key)._value()  # type: ignore[union-attr]
        if OmegaConf.is_missing(tree, key) or (isinstance(written, str) and OF_CONTENT.search(written)):
            found[str(key)] = TEXT
            continue
        try:
            found[str(key)] = _resolved(tree[key])
        except OmegaConfBaseException:
            found[str(key)] = TEXT
    return found


@dataclass(frozen=True)
class Chosen:
    """What all lines with the same choices have in common.

    Attributes:
        words: All overrides but plain values: what chooses, adds or takes away, and all of Hydra's own.
        hydra: Hydra's own part of the configuration.
        choices: The names of the chosen options by group.
        files: config.yaml and the chosen options in the order in which they were merged, Hydra's own aside.
        reader: Reads these files.
        config: The configuration without Hydra's part; it is copied, never changed.
    """

    words: tuple[str, ...]
    hydra: DictConfig
    choices: Mapping[str, str]
    files: Sequence[ResultDefault]
    reader: _Files
    config: DictConfig


@dataclass(frozen=True)
class Composed:
    """A configuration without Hydra's part, and what it was composed of.

    Attributes:
        config: The configuration.
        chosen: Its choices.
        values: The other overrides, by their keys: values that are put in the place of others.
    """

    config: DictConfig
    chosen: Chosen
    values: Mapping[str, object]


class _Files(ConfigRepository):
    """Reads each YAML file once, not once a composition; what it gives is the caller's to change."""

    def __init__(self, path: ConfigSearchPath) -> None:
        super().__init__(path)
        self.read: dict[str, ConfigResult] = {}

    def __deepcopy__(self, memo: object) -> _Files:
        # Hydra's copy for each composition adds folders at the end: a file that was found stays the same one.
        return copy.copy(self)

    def load_config(self, config_path: str) -> ConfigResult | None:
        if config_path not in self.read:
            found = super().load_config(config_path)
            if found is None:
                return None
            self.read[config_path] = found
        return copy.deepcopy(self.read[config_path])


class _Loader(ConfigLoaderImpl):
    """Keeps which files the latest composition merged."""

    def __init__(self, path: ConfigSearchPath) -> None:
        super().__init__(path)
        self.repository = self.reader = _Files(path)
        self.files: Sequence[ResultDefault] = []

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        # Only a composition comes with a repository that caches, not a call of ``base_trees``.
        if isinstance(repo, CachingConfigRepository) and isinstance(repo.delegate, _Files):
            self.files, self.reader = defaults, repo.delegate
        return super()._compose_config_from_defaults_list(defaults, repo)


def _choices(overrides: Any, defaults: list[Any], self_added: bool) -> DictConfig:
    """Hydra's, where an entry of the defaults list asks for it."""
    asked = any(entry.is_interpolation() for entry in defaults)
    return CHOICES(overrides, defaults, self_added) if asked else DictConfig({})


class Composer:
    """Hydra's compose API over a configuration folder.

    What is chosen is composed once; other values are put into a copy of that, by Hydra's own rules: a sweep over
    numbers composes once, not once a job. While it is open, Hydra's global state is this folder's and OmegaConf
    remembers parsed interpolations; both are put back at the end. Not to be nested.

    Args:
        conf: The folder.
        args: Hydra's own options; ``--config-dir`` adds a folder.
    """

    def __init__(self, conf: Path, args: argparse.Namespace) -> None:
        self.conf, self.folder = conf, args.config_dir
        self.extra: list[str] = []
        self.known: dict[tuple[str, ...], Chosen] = {}
        self.trees: dict[tuple[str, ...], tuple[Any, Any]] = {}
        self.number: int | None = None  # of the job that is composed, in a sweep

    def __enter__(self) -> Composer:
        if self.folder is not None and not Path(self.folder).is_dir():
            raise InputError(f"--config-dir {self.folder}: there is no such folder")
        self.before = GlobalHydra.instance().hydra  # of a program that uses Hydra itself
        GlobalHydra.instance().clear()
        initialize_config_dir(str(self.conf), version_base="1.3", job_name="mcr").__enter__()
        if self.folder is not None:
            self.extra = [f"hydra.searchpath=[{quoted(f'file://{Path(self.folder).absolute()}')}]"]
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        hydra.config_loader = self.loader = _Loader(hydra.config_loader.get_search_path())
        self.parser = OverridesParser.create(config_loader=self.loader)
        # Jobs have the same interpolations; parsing them anew is a quarter of the time of a large sweep's plan.
        vars(base)["parse"] = functools.cache(PARSE)
        vars(defaults_list)["_create_interpolation_map"] = _choices  # made for every file, a third of the time
        OmegaConf.register_new_resolver("hydra", self._of_hydra, replace=True)
        return self

    def __exit__(self, *_: object) -> None:
        vars(base)["parse"] = PARSE
        vars(defaults_list)["_create_interpolation_map"] = CHOICES
        setup_globals()  # its own resolver
        GlobalHydra.instance().hydra = self.before

    def _of_hydra(self, name: str) -> object:
        """What ``${hydra:NAME}`` will be in the job."""
        return self.number if name == "job.num" and self.number is not None else UNKNOWN

    def compose(self, words: Sequence[str]) -> Composed:
        """The configuration of a line of overrides."""
        overrides = self.parser.parse_overrides([*self.extra, *words])
        values = [override for override in overrides if self.is_value(override)]
        words = tuple(str(override.input_line) for override in overrides if override not in values)
        if words not in self.known:
            self.known[words] = self._choose(words)
        config = copy.deepcopy(self.known[words].config)
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        return Composed(config, self.known[words], {value.key_or_group: value.value() for value in values})

    def _choose(self, words: tuple[str, ...]) -> Chosen:
        whole = compose("config", overrides=list(words), return_hydra_config=True)
        choices = {str(group): str(option) for group, option in whole.hydra.runtime.choices.items()}
        # Hydra's part is half of it: it is not copied for every job.
        config = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
        OmegaConf.set_struct(config, True)
        files = [file for file in self.loader.files if not str(file.config_path).startswith("hydra/")]
        return Chosen(words, whole.hydra, choices, files, self.loader.reader, config)

    def base_trees(self, chosen: Chosen) -> tuple[Any, Any]:
        """The merged YAML of the chosen options without overlays and overrides: what keys and types are checked with.

        Plain containers; of the first interpolations are left as text, in the second they are resolved.
        """
        if chosen.words not in self.trees:
            files = [file for file in chosen.files if str(file.config_path).partition("/")[0] not in OVERLAYS]
            tree = self.loader._compose_config_from_defaults_list(files, chosen.reader)
            self.trees[chosen.words] = OmegaConf.to_container(tree, resolve=False), identity.numbers(_resolved(tree))
        return self.trees[chosen.words]

    def is_value(self, override: Override) -> bool:
        """Whether an override only sets a plain value outside of Hydra's part: it chooses, adds and removes nothing."""
        key = override.key_or_group
        plain = not (override.is_add() or override.is_force_add() or override.is_delete() or override.package)
        return plain and not key.startswith("hydra.") and not self.loader.repository.group_exists(key)

    def first(self, words: Sequence[str]) -> Composed:
        """A line of overrides with the first value of every list, range or interval in it."""
        return self.compose([sweepers.each(override)[0] for override in self.parser.parse_overrides(list(words))])

    def jobs(self, whole: Chosen, words: Sequence[str]) -> list[list[str]]:
        """The lines of overrides of a sweep; where a sweeper searches, which alone knows them, some that it may make.

        Args:
            whole: The configuration at the first values.
            words: Of the command.
        """
        overrides = self.parser.parse_overrides([*sweepers.params(whole.hydra), *words])
        return sweepers.samples(overrides) if sweepers.searches(whole.hydra) else sweepers.lines(overrides)

    def several(self, words: Sequence[str]) -> Iterator[str]:
        """Words that name several values."""
        for override in self.parser.parse_overrides(list(words)):
            if override.is_sweep_override():
                yield str(override.input_line)

"""``mcr list``: the config groups, the options of one, and what the experiments are; the text of ``mcr --help``."""

from __future__ import annotations

import argparse
import string
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mcr.app.experiments import Experiment
from mcr.errors import InputError
from mcr.store.build import nearest

EXPERIMENT = "experiment"  # the group whose options are told at length


def description(path: Path) -> str:
    """The first comment of a YAML file that is no Hydra directive."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @"):
            return line.lstrip("# ")
    return ""


def folders(conf: Path, args: argparse.Namespace) -> list[Path]:
    """Where groups lie: the package's own, and those of ``--config-dir``.

    Raises:
        InputError: For a folder that is not there.
    """
    found = [conf, *([Path(args.config_dir)] if args.config_dir else [])]
    if not found[-1].is_dir():
        raise InputError(f"--config-dir {args.config_dir}: there is no such folder")
    return found


def list_options(conf: Path, args: argparse.Namespace) -> None:
    """Print the config groups, or the options of one with what they are; those of ``--config-dir`` among them."""
    groups: dict[str, dict[str, Path]] = {}
    for folder in folders(conf, args):
        for name, options in _groups(folder).items():
            groups.setdefault(name, {}).update({option: folder / name / f"{option}.yaml" for option in options})
    console = Console(soft_wrap=False)
    table = Table(box=None, pad_edge=False)
    if not args.overrides:
        table.add_column("group", style="bold")
        table.add_column("options")
        for name in sorted(groups):
            table.add_row(name, ", ".join(sorted(groups[name])))
        console.print(table)
        return
    name = args.overrides[0].split("@")[0]
    if name not in groups:
        raise InputError(f"there is no group {name}; {nearest(name, list(groups))}")
    if name == EXPERIMENT:
        for _, path in sorted(groups[name].items()):
            Experiment.read(path).print(console)
        return
    table.add_column(name, style="bold")
    table.add_column("what it is")
    for option, path in sorted(groups[name].items()):
        table.add_row(option, escape(description(path)))
    console.print(table)


def plain_help(args: argparse.Namespace, own: DictConfig) -> bool:
    """Whether ``help_text`` shows all that Hydra's own form would: no folder of the user's, no template but ours."""
    placeholders = string.Template(own.help.template).get_identifiers()
    return args.config_dir is None and not own.searchpath and placeholders == ["APP_CONFIG_GROUPS"]


def help_text(conf: Path, own: DictConfig) -> str:
    """The text of ``--help``; Hydra's own way to it walks through all groups twice.

    Args:
        conf: Holds the groups.
        own: Hydra's part of the configuration.
    """
    lines = [f"{name}: {', '.join(options)}\n" for name, options in _groups(conf).items()]
    return string.Template(own.help.template).substitute(APP_CONFIG_GROUPS="".join(lines))


def _groups(conf: Path) -> dict[str, list[str]]:
    # Hydra's own settings are nothing that is chosen.
    folders = sorted(path for path in conf.iterdir() if path.is_dir() and path.name != "hydra")
    return {folder.name: sorted(path.stem for path in folder.glob("*.yaml")) for folder in folders}

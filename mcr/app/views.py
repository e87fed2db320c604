"""Views that compute and write nothing: ``mcr list`` and ``mcr show``."""

from __future__ import annotations

import argparse
import string
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mcr.app.overrides import Request
from mcr.app.titles import title
from mcr.errors import InputError
from mcr.plans import pipeline
from mcr.store.build import nearest
from mcr.store.store import Store

STYLES = {"hit": "green", "miss": "yellow", "damaged": "red"}


def description(path: Path) -> str:
    """The first comment of a YAML file that is no Hydra directive."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @"):
            return line.lstrip("# ")
    return ""


def list_options(conf: Path, args: argparse.Namespace) -> None:
    """Print the config groups, or the options of one with what they are; those of ``--config-dir`` among them."""
    folders = [conf, *([Path(args.config_dir)] if args.config_dir else [])]
    if not folders[-1].is_dir():
        raise InputError(f"--config-dir {args.config_dir}: there is no such folder")
    groups: dict[str, dict[str, Path]] = {}
    for folder in folders:
        for name, options in _groups(folder).items():
            groups.setdefault(name, {}).update({option: folder / name / f"{option}.yaml" for option in options})
    table = Table(box=None, pad_edge=False)
    if not args.overrides:
        table.add_column("group", style="bold")
        table.add_column("options")
        for name in sorted(groups):
            table.add_row(name, ", ".join(sorted(groups[name])))
    else:
        name = args.overrides[0].split("@")[0]
        if name not in groups:
            raise InputError(f"there is no group {name}; {nearest(name, list(groups))}")
        table.add_column(name, style="bold")
        table.add_column("what it is")
        for option, path in sorted(groups[name].items()):
            table.add_row(option, escape(description(path)))
    Console(soft_wrap=False).print(table)


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


def show_plans(request: Request, console: Console) -> None:
    """Print every stage of every job with its state; those that several jobs share, with the first of them."""
    above: dict[str, frozenset[str]] = {}  # key of a stage that was told to those of all that it needs
    for index, job in enumerate(request.jobs):
        store = Store(job.config["paths"]["store"])
        name = title(job.config)
        stages = pipeline.ordered(pipeline.plan(job.config, name)[job.config["verb"]])
        new = [stage for stage in stages if stage.key not in above]
        table = Table("stage", "key", "state", "needs", box=None, pad_edge=False)
        for stage in new:
            needs = list(stage.needs.values())
            # What a need needs itself is not told again.
            told = frozenset().union(*(above[need.key] for need in needs))
            above[stage.key] = told | {need.key for need in needs}
            state = store.state(stage)
            shown = f"[{STYLES[state]}]{state}[/{STYLES[state]}]"
            table.add_row(stage.label, stage.key, shown, ", ".join(n.label for n in needs if n.key not in told))
        heading = f"job {index}: {' '.join(job.overrides)}" if request.swept else name
        console.print(heading, style="italic", markup=False, highlight=False)
        if new:
            console.print(table)
        if len(new) < len(stages):
            console.print(f"{len(stages) - len(new)} of {len(stages)} stages are listed above", style="dim")
        if index + 1 < len(request.jobs):
            console.print()

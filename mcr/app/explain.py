"""``mcr explain KEY``: what a setting of the configuration, or a stage of the store, is."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from rich.console import Console

from mcr.app import hints, options, overrides
from mcr.app.composition import Composer
from mcr.app.made import LEAST, MadeStage
from mcr.app.setting import Setting
from mcr.app.titles import title
from mcr.errors import InputError
from mcr.plans import pipeline
from mcr.store.identity import KEY_LENGTH

USAGE = "mcr explain training.epochs, or the first digits of a stage's key; other words are overrides"
KEY = re.compile(f"[0-9a-f]{{{LEAST},{KEY_LENGTH}}}")


def explain(conf: Path, args: argparse.Namespace, console: Console) -> None:
    """Print what a key is.

    Args:
        conf: Holds the configuration.
        args: Hydra's own, whose words are the key and overrides.
        console: Where.

    Raises:
        InputError: For a key that is neither, naming the nearest, or for none or several.
    """
    folders = options.folders(conf, args)
    keys = [word for word in args.overrides if "=" not in word and not word.startswith("~")]
    if len(keys) != 1:
        raise InputError(f"explain takes one key: {USAGE}")
    words = [word for word in args.overrides if word not in keys]
    if KEY.fullmatch(keys[0]) and any(character.isdigit() for character in keys[0]):
        given = argparse.Namespace(**vars(args) | {"overrides": words})
        config = overrides.compose_jobs(conf, given, "report").jobs[0].config
        made = MadeStage.of(keys[0], Path(config["paths"]["store"]), Path(config["paths"]["root"]))
        plan = pipeline.plan(config, title(config))
        made.print(console, pipeline.ordered([stage for goal in plan.values() for stage in goal]))
        return
    with Composer(conf, args) as composer, hints.explained(conf, words):
        setting = Setting.of(keys[0], composer.first(words), folders)
    setting.print(console, "here" if words else "default")

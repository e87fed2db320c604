"""What Hydra says of a mistake, as one line with what would be right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mcr.app import differences
from mcr.app.synonyms import synonym
from mcr.errors import InputError
from mcr.store import build

MOST = 300  # characters of what another program says
# Groups of Hydra whose options are packages of their own.
PLUGINS = {
    "hydra/launcher": "pip install 'mcr[launchers]' has joblib, submitit_local and submitit_slurm, mcr[ray] has ray",
    "hydra/sweeper": "pip install 'mcr[optuna]' has optuna",
}
PLACES = ("endpoint@endpoints.start", "endpoint@endpoints.end", "reference@references.straight")


@contextmanager
def explained(conf: Path, overrides: list[str]) -> Iterator[None]:
    """Hydra's errors as InputErrors of one line."""
    try:
        yield
    except InputError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise InputError(_one_line(error, conf, overrides)) from error
    except (TypeError, OSError) as error:  # of Hydra, for what is no name of an option
        said = _no_name(conf, _groups(conf), overrides)
        if not said:
            raise
        raise InputError(said) from error


def _one_line(error: Exception, conf: Path, overrides: list[str]) -> str:
    text = str(error)
    groups = _groups(conf)
    option = re.search(r"Could not (?:find|load) '([\w/.@-]+)/([^/']*)'", text)
    if option:
        return _no_option(conf, *option.groups())
    group_match = re.search(r"Could not override '([^']+)'", text) or re.search(r"could not override '([^']+)'", text)
    unknown = re.search(r"Key '([^']+)' is not in struct\s+full_key: (\S+)", f"{text} {error.__cause__ or ''}")
    if unknown or group_match:
        wanted = unknown.group(2) if unknown else group_match.group(1)  # type: ignore[union-attr]
        # Hydra stops at the first part that is not there.
        tried = (word.partition("=")[0].lstrip("+~") for word in overrides)
        return _unknown(next((key for key in tried if key.startswith(f"{wanted}.")), wanted), wanted, groups)
    twice = re.search(r"Could not append.*override '?([\w/@.]+)'?", text) or re.search(r"use 'override (\S+):", text)
    if twice:
        return f"+{twice.group(1).rstrip(':')}: there is one already: leave out the +"
    if "Config group override must be" in text:
        said = _no_name(conf, groups, overrides)
        return said or f"{differences.said(' '.join(overrides))}: an override is KEY=VALUE or GROUP=OPTION"
    for word in overrides:
        key, _, value = word.partition("=")
        if "interval(" in value:
            return f"{word}: an interval is for a sweeper that searches (hydra/sweeper=optuna); a list is {key}=a,b,c"
        if said := _unreadable(word):
            return said
    merged = re.search(r"Error merging override (.*)", text)
    if merged:
        return f"{differences.said(merged.group(1))} cannot stand there: the configuration has a mapping or a list"
    first = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
    guilty = next((word for word in overrides if word.partition("=")[0].lstrip("+~") in first), None)
    return f"{first[:MOST]}{f' (in: {differences.said(guilty)})' if guilty and guilty not in first else ''}"


def _no_name(conf: Path, groups: list[str], overrides: list[str]) -> str:
    """The line for a group that is given something else than a name; empty where none is."""
    for word in overrides:
        group, _, value = word.partition("=")
        group = group.lstrip("+").partition("@")[0]
        if group in groups and not re.fullmatch(r"(?!null$|true$|false$)[A-Za-z_][\w/-]{0,99}", value):
            names = sorted(path.stem for path in (conf / group).glob("*.yaml"))
            nothing = f"for nothing write {group}=none" if value == "null" and "none" in names else ""
            return f"{differences.said(word)}: {nothing or 'it takes one of ' + ', '.join(names)}"
    return ""


def _groups(conf: Path) -> list[str]:
    return sorted(str(path.relative_to(conf)) for path in conf.rglob("*") if path.is_dir())


def _no_option(conf: Path, group: str, name: str) -> str:
    names = sorted(path.stem for path in (conf / group).glob("*.yaml"))
    if group.startswith("hydra/"):
        hint = PLUGINS.get(group, f"Hydra's plugin for it is a package of its own, as hydra-{name}-{group[6:]}")
        return f"{group}={name}: there is no such option here; {hint}"
    nothing = name in ("", "null", "off") and "none" in names
    hint = f"for nothing write {group}=none" if nothing else build.nearest(name, names)
    return f"{group}={differences.said(name)}: there is no such option; {hint}"


def _unknown(key: str, wanted: str, groups: list[str]) -> str:
    """The line for a key of which a part, or all, is not there."""
    tree = OmegaConf.to_container(compose("config"), resolve=False)
    meant = synonym(key) or synonym(wanted)
    wanted = key if synonym(key) else wanted
    hint = f"it is {meant}" if meant else build.nearest(wanted, [*differences.keys(tree), *groups, *PLACES])
    extra = f" (an argument of your own network: +{wanted}=...)" if wanted.startswith("architecture.") else ""
    return f"there is no {wanted} to override; {hint}{extra}"


def _unreadable(word: str) -> str:
    """The line for a word that Hydra's grammar does not know, with the quotes that it would take."""
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        key, equals, value = word.partition("=")
        quoted = f"\"{key}='{value[: differences.MOST]}'\"" if "'" not in value else "quotes around the value"
        hint = f"if the value is text, write {quoted}" if equals else "an override is KEY=VALUE or GROUP=OPTION"
        return f"{differences.said(word)} cannot be read: {hint}"
    return ""

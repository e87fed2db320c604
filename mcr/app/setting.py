"""A setting of the configuration: what its YAML says of it, where it stands, its value, and whose recipe it is in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from mcr.app import differences, overrides
from mcr.app.composition import Composed
from mcr.app.options import description
from mcr.errors import InputError
from mcr.plans import pipeline
from mcr.store import build, identity

SURROUNDINGS = ("runtime", "logger", "paths")  # what cannot change a stored number, but for parts that are in recipes
GOALS = ("report", "repair")


@dataclass(frozen=True)
class Line:
    """Where a setting stands.

    Attributes:
        file: A YAML file, as people find it.
        number: Of the line, from 1.
        comment: Of the line; empty where it has none.
        above: The comment of the section that it is in, after the section's name.
    """

    file: str
    number: int
    comment: str
    above: str


@dataclass(frozen=True)
class Setting:
    """One setting of a composed configuration.

    Attributes:
        key: Dotted.
        written: Its value as YAML has it; interpolations are text.
        value: With interpolations resolved; None where that takes what only the user gives.
        lines: Where it is set, the line that holds last.
        stages: Kinds of stages whose recipes it is in, by the plans of a report and of a repair; None where nothing
            can be planned, since another value is missing.
        plans: Whether it changes the plan itself: another value of it is refused there.
    """

    key: str
    written: Any
    value: Any
    lines: Sequence[Line]
    stages: Sequence[str] | None
    plans: bool

    @classmethod
    def of(cls, key: str, composed: Composed, folders: Sequence[Path]) -> Setting:
        """A setting by its dotted key.

        Args:
            key: Of it.
            composed: The configuration that it is in.
            folders: That hold the YAML files.

        Raises:
            InputError: Where there is no such setting, naming the nearest.
        """
        config = composed.config
        written = differences.at(OmegaConf.to_container(config, resolve=False), key)
        if written is differences.ABSENT:
            names = list(differences.keys(OmegaConf.to_container(config, resolve=False)))
            raise InputError(f"there is no setting {key}; {build.nearest(key, names)}")
        try:
            found = OmegaConf.select(config, key)
            value = OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else found
        except (OmegaConfBaseException, InputError):
            value = None
        places = [(str(file.config_path), str(file.package or "")) for file in composed.chosen.files]
        lines = list(_lines(key, places, folders))
        stages, plans = _recipes(config, key, value)
        return cls(key, written, value, lines, stages, plans)

    def print(self, console: Console, what: str) -> None:
        """All of it, in a few lines.

        Args:
            console: Where.
            what: What its value is called: the default, or that of a command.
        """
        console.print(Text(self.key, style="bold"))
        comment = next((line.comment for line in reversed(self.lines) if line.comment), "")
        above = next((line.above for line in reversed(self.lines) if line.above), "")
        places = ", before that ".join(f"{line.file}, line {line.number}" for line in reversed(self.lines))
        told = [comment or above, f"{what}: {self._value()}", f"stands in {places}" if places else "", self.influence()]
        for text in filter(None, told):
            console.print(Padding(Text(text), (0, 0, 0, 2)))

    def _value(self) -> str:
        if self.written == differences.TEXT:
            return "none, it has to be given"
        if isinstance(self.written, Mapping):
            return f"{', '.join(self.written)}" if self.written else "nothing"
        written, value = differences.said(self.written), differences.said(self.value)
        followed = isinstance(self.written, str) and "${" in self.written
        return f"{value}, from {written}" if followed else written

    def influence(self) -> str:
        """Whether another value changes results, in words."""
        if self.stages:
            kinds = ", ".join(self.stages)
            return f"changes results (hashed): another value makes {kinds} anew, and what needs them"
        if self.plans:
            return "changes results (hashed): it decides what is planned"
        if self.key.partition(".")[0] in SURROUNDINGS:
            return "not hashed: it is in no recipe, and changes no number beyond rounding"
        if self.stages is None:
            return "whether it changes results can be told when the values that are missing are given"
        return "in no recipe of this configuration: what would read it is not chosen"


def _lines(key: str, places: Sequence[tuple[str, str]], folders: Sequence[Path]) -> Iterator[Line]:
    for name, package in places:
        path = next((folder / f"{name}.yaml" for folder in folders if (folder / f"{name}.yaml").is_file()), None)
        inside = not package or key == package or key.startswith(f"{package}.")
        if path is None or not inside:
            continue
        rest = key.removeprefix(package).lstrip(".") if package else key
        text = path.read_text(encoding="utf-8")
        folder = next(folder for folder in folders if path.is_relative_to(folder))
        file = f"{folder.name}/{path.relative_to(folder)}"
        lines = text.splitlines()
        if not rest:
            yield Line(file, 1, description(path), "")
            continue
        parts = rest.split(".")
        numbers = _numbers(text, parts)
        if numbers:
            sections = [(part, _comment(lines[number])) for part, number in zip(parts, numbers, strict=True)][:-1]
            whole = [(name, description(path))] if package else []
            above = next((f"{part}: {comment}" for part, comment in [*reversed(sections), *whole] if comment), "")
            yield Line(file, numbers[-1] + 1, _comment(lines[numbers[-1]]), above)


def _numbers(text: str, parts: Sequence[str]) -> list[int]:
    """The lines, from 0, of a key and of the sections that it is in; none where it is not there."""
    node, found = yaml.compose(text), []
    for part in parts:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        match = next(((name, value) for name, value in pairs if name.value == part), None)
        if match is None:
            return []
        found.append(match[0].start_mark.line)
        node = match[1]
    return found


def _comment(line: str) -> str:
    """What stands behind # in a line of YAML, outside of quotes."""
    quote = ""
    for index, character in enumerate(line):
        if character in "'\"":
            quote = "" if quote == character else quote or character
        if character == "#" and not quote and (index == 0 or line[index - 1] == " "):
            return line[index + 1 :].strip()
    return ""


def _recipes(config: DictConfig, key: str, value: Any) -> tuple[list[str] | None, bool]:
    """Kinds of stages that have another recipe where a setting has another value, and whether the plan refuses one."""
    found, refused = dict[str, None](), False
    changes = dict(_leaves(key, value))
    for goal in GOALS:
        try:
            before = _recipe_keys(config, {"verb": goal})
        except InputError:
            return None, False
        for path, old in changes.items():
            try:
                after = _recipe_keys(config, {"verb": goal, path: _other(identity.number(old))})
            except (InputError, LookupError, TypeError, AttributeError, ValueError):  # a value that means nothing
                refused = True
                continue
            found |= {name: None for (name, label), recipe in before.items() if after.get((name, label)) != recipe}
    return list(found), refused


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The settings below a section, with their values; of a setting itself."""
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from _leaves(f"{key}.{name}", part)
    else:
        yield key, value


def _recipe_keys(config: DictConfig, changes: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Kind and label of each stage to the digest of its own recipe, without that of what it needs."""
    changed = config.copy()
    for key, value in changes.items():
        OmegaConf.update(changed, key, value, force_add=True)
    plain = overrides.with_choices(overrides.plain(changed), {})
    stages = pipeline.ordered(pipeline.plan(plain)[changes["verb"]])
    return {(stage.name, stage.label): identity.key(stage.config) for stage in stages}


def _other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, list):
        return [*value, *(value[:1] or ["another"])]
    return 1

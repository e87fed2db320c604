"""What an experiment is, from the first comments of its YAML file and its claims."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

COMMAND, COST = "mcr ", "Cost: "  # how the comments of a command and of a cost begin


@dataclass(frozen=True)
class Experiment:
    """One option of the group ``experiment``.

    Attributes:
        name: Of the option.
        sentence: What it is.
        command: That runs it.
        cost: What it takes, in words.
        claims: Of each claim the name: what stands before the first comma of its source.
    """

    name: str
    sentence: str
    command: str
    cost: str
    claims: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Experiment:
        """From its file; a part that the file does not tell is empty."""
        lines = path.read_text(encoding="utf-8").splitlines()
        told = [line.lstrip("# ") for line in lines if line.startswith("#") and not line.startswith("# @")]
        command = next((line for line in told if line.startswith(COMMAND)), "")
        cost = next((line for line in told if line.startswith(COST)), "")
        sentence = next((line for line in told if line not in (command, cost)), "")
        return cls(path.stem, sentence, command, cost.removeprefix(COST), _claims(path))

    def print(self, console: Console) -> None:
        """Its name, and below it the sentence, the command, the cost and the claims."""
        console.print(self.name, style="bold", markup=False, highlight=False)
        count = f"{len(self.claims)} claim{'s' if len(self.claims) != 1 else ''}"
        named = ", ".join(dict.fromkeys(self.claims))
        cost = [self.cost] if self.cost else []
        for line in (self.sentence, self.command, "; ".join([*cost, f"{count}: {named}" if named else count])):
            if line:
                console.print(Padding(escape(line), (0, 0, 0, 2)), highlight=False)


def _claims(path: Path) -> tuple[str, ...]:
    """The names of the claims of an experiment, or of the one that it is a form of."""
    given = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if "claims" in given:
        return tuple(claim["source"].partition(",")[0] for claim in given["claims"])
    above = [path.with_name(f"{name}.yaml") for name in given.get("defaults", ()) if isinstance(name, str)]
    return _claims(above[0]) if above and above[0].is_file() else ()

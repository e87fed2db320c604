"""Which networks are aligned with which: what may be refused before any is trained."""

from __future__ import annotations

from mcr.errors import InputError
from mcr.plans import recipes
from mcr.plans.node import Config

JOINT = "jointly"  # the kind of edit that gives one result for all networks, of which each takes its share


def reference(endpoints: Config, name: str, edit: str) -> str:
    """The network that another one is aligned with. Raises InputError where there is none of that name."""
    found = str(endpoints[name]["edits"][edit]["reference"])
    if found not in endpoints or found == name:
        raise InputError(
            f"endpoints.{name}.edits.{edit}.reference={found} must name another network: "
            f"{', '.join(other for other in endpoints if other != name)}"
        )
    return found


def joint(endpoints: Config, name: str, edit: str) -> list[str]:
    """The networks that are aligned together with one, and that one, in order: all of the run.

    Raises:
        InputError: Where one of them has no such edit or another one of that name, or draws of its own are asked for.
    """
    chosen = endpoints[name]["edits"][edit]
    without = [other for other in endpoints if endpoints[other]["edits"].get(edit) != chosen]
    if without or len(endpoints) < 2:
        raise InputError(
            f"endpoints.{name}.edits.{edit} aligns all networks together: give each of them this edit, with the same "
            f"name and settings; missing or different: {', '.join(without) or 'a second network'}"
        )
    if recipes.one_of(f"endpoints.{name}.edits.{edit}.numbers", chosen["numbers"], ("shared", "own")) == "own":
        raise InputError(f"endpoints.{name}.edits.{edit} is one alignment of all networks: numbers=own has no meaning")
    return list(endpoints)

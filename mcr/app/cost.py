"""``mcr show --cost``: what the stages that are missing will take on this machine, each kind of them measured once."""

from __future__ import annotations

import logging
import multiprocessing
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcr.errors import InputError
from mcr.progress import bar
from mcr.stages.context import Context
from mcr.store import identity
from mcr.store.stage import Stage
from mcr.store.store import Store

if TYPE_CHECKING:
    from mcr.stages.price import Price

COST = "--cost"
LOADED = ["mcr.stages.price", "mcr.stages.connect", "mcr.stages.place", "mcr.stages.measure"]
NOT_MEASURED = ("choose", "refit", "card", "report", "extract")  # they read what only the stages before them can make
LIKE_ANOTHER = ("seed", "name")  # in the recipe: stages that differ in these alone take the same


@dataclass(frozen=True)
class Costs:
    """What stages will take.

    Attributes:
        prices: Of a kind of stage, see ``kind``.
        unknown: Of a kind why it could not be measured.
    """

    prices: Mapping[str, Price]
    unknown: Mapping[str, str]

    @classmethod
    def measured(cls, stages: Sequence[Stage], store: Store, runtime: Mapping[str, Any]) -> Costs:
        """Run a little of every kind of stage, each in a process of its own; what is written is removed at the end.

        Args:
            stages: That are missing, needs first.
            store: Is read only.
            runtime: The group ``runtime``.

        Raises:
            InputError: For images that are not in the store and may have to be downloaded first.
        """
        kinds = {kind(stage): stage for stage in reversed(stages) if stage.name not in NOT_MEASURED}
        for stage in stages:
            if stage.name == "data" and stage.places and "fingerprint" not in stage.config["dataset"]:
                raise InputError(
                    f"{COST} measures with the images themselves, which are not in {store.root} and may have to be "
                    "downloaded: mcr train puts them there at its beginning"
                )
        prices: dict[str, Price] = {}
        unknown: dict[str, str] = {}
        context = Context(runtime, {"kind": "none"}, "", Path())
        processes = multiprocessing.get_context("forkserver")
        processes.set_forkserver_preload(LOADED)
        with tempfile.TemporaryDirectory(prefix="mcr-cost-") as folder, bar("cost", len(kinds), "kinds") as progress:
            for count, (name, stage) in enumerate(reversed(kinds.items()), start=1):
                ours, theirs = processes.Pipe(duplex=False)
                arguments = (stage, str(store.root), folder, context, theirs)
                process = processes.Process(target=_measure, args=arguments, daemon=True)
                process.start()
                theirs.close()
                try:
                    found = ours.recv()
                except EOFError:
                    found = "its process ended"
                process.join()
                (unknown if isinstance(found, str) else prices)[name] = found
                progress.reach(count, stage.label)
        return cls(prices, unknown)

    def of(self, stage: Stage) -> Price | None:
        """What a stage will take; None where that is not known."""
        return self.prices.get(kind(stage))


def kind(stage: Stage) -> str:
    """What stages have in common that take the same."""
    config = {key: value for key, value in stage.config.items() if key not in LIKE_ANOTHER}
    place = stage.needs.get("place")
    # Where a path lies, and how it came there, does not matter to what is asked along it.
    placed = {key: value for key, value in place.config.items() if key not in ("curve", "ends")} if place else {}
    roles = sorted(role for role in stage.needs if not role.startswith(("training ", "path/")))
    return identity.canonical({"stage": stage.name, "config": config, "place": placed, "roles": roles})


def _measure(stage: Stage, store: str, folder: str, context: Context, connection: Connection) -> None:
    from mcr.stages.price import price
    from mcr.stages.stand_ins import StandIns

    logging.disable(logging.WARNING)
    try:
        connection.send(price(stage, StandIns(Store(store), Path(folder), context)))
    except Exception as error:  # of anything that a stage runs: a part of the user's too
        first = next(iter(str(error).splitlines()), "")
        connection.send(f"{type(error).__name__}: {first}")

"""One run: from a configuration to the stages, the run folder's links, and the closing words."""

from __future__ import annotations

import logging
import math
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mcr.app import failure, launching, logged, overrides
from mcr.app.titles import title
from mcr.errors import InputError
from mcr.loggers.job import metrics
from mcr.plans import pipeline, plugins
from mcr.reports import bom, costs, provenance
from mcr.reports.claims import Verdict
from mcr.reports.factors import varied
from mcr.reports.pivots import Layout
from mcr.stages.context import Context
from mcr.store import build, jsonfile
from mcr.store.store import Store
from mcr.text import CELL, printable

log = logging.getLogger("mcr")
CLEANED, MERGED = "cleaned.safetensors", "merged.safetensors"
ONE_AFTER_ANOTHER = "BasicLauncher"  # Hydra's own; others run jobs at the same time
REPORTED = ("report", "repair", "merge")  # verbs that end with files to open and send on
STALE = ("summary.json", CLEANED, MERGED, "merges.csv", "card.md", "card.json", bom.FILE)


def check(request: overrides.Request) -> None:
    """Refuse what can be known to be wrong before anything is written.

    Raises:
        InputError: For a missing file or folder, an unknown import path, a value out of its range, or a factor of the
            report's tables that does not vary.
    """
    from mcr.stages import choices, settings

    checked: set[str] = set()
    factors, _ = varied([dict(word.split("=", 1) for word in job.overrides if "=" in word) for job in request.jobs])
    for job in request.jobs:
        Layout.of(factors, job.config["report"]["rows"], job.config["report"]["columns"])
        settings.check(job.config)
        store = Store(job.config["paths"]["store"])
        goals = pipeline.plan(job.config, title(job.config))[job.config["verb"]]
        stages = pipeline.ordered(goals)
        missing = [stage for stage in stages if not store.has(stage)]
        choices.check(plugins.marked(job.config), [stage for stage in stages if stage not in missing])
        if job.config["optimized_metric"] is not None:
            from mcr.stages import checks

            checks.check_quantity("optimized_metric", job.config["optimized_metric"], goals[0])
        if any("_target_" in word for word in job.overrides):
            for target in _targets(job.config):
                build.locate(target)
        missing = [stage for stage in missing if stage.key not in checked]
        checked |= {stage.key for stage in missing}
        if missing:
            # Torch takes seconds to load, which a command that finds all in the store does without.
            from mcr.stages import checks

            # A launcher may carry the job to another machine; there it is checked again.
            if not any(word.startswith("hydra/launcher=") for word in job.overrides):
                Context(job.config["runtime"], job.config["logger"], "", Path()).check()
            for stage in missing:
                checks.check(stage)
            checks.check_with_data(missing, store)


def job(cfg: DictConfig) -> float | None:
    """Carry out one job in Hydra's output folder.

    A failure that a user can mend is recorded there, not raised: Hydra would stop a sweep's table for it.
    In a sweep every failure is, so that the next job starts. A job whose process is killed has failed as well: that
    stands there from its beginning on, until it ends.

    Returns:
        The number of its summary that ``optimized_metric`` names, for a sweeper that searches; None if there is none.
        Of None, Optuna counts the trial as failed and goes on; NaN would end the search.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    swept = hydra.mode == RunMode.MULTIRUN
    if swept and launching.skipped(hydra.job.num):
        return None
    for stale in STALE:  # a named folder may hold an earlier run
        (folder / stale).unlink(missing_ok=True)
    group, words = Path(hydra.sweep.dir).name if swept else folder.name, hydra.overrides.task
    chosen: dict[str, Any] = {}
    try:
        failure.begin(folder)
        chosen = overrides.with_choices(overrides.plain(cfg), hydra.runtime.choices)
        if swept:
            chosen["runtime"] = launching.device(chosen["runtime"], hydra.job.num)
        beside = swept and not hydra.launcher._target_.endswith(f".{ONE_AFTER_ANOTHER}")
        with launching.told_apart(hydra.job.num) if beside else nullcontext():
            stages = carry_out(chosen, folder, group)
        if cfg["verb"] in REPORTED:
            asked = [word for word in words if word != f"verb={cfg['verb']}"]
            provenance.add(folder, [cfg["verb"], *asked], asked)
        if cfg["verb"] == "repair":
            bom.write(folder)
        logged.log(chosen, words, folder, group, stages)
        failure.end(folder)
        return optimized(folder, chosen["optimized_metric"])
    except (Exception, SystemExit) as error:
        foreseen = isinstance(error, InputError | OSError | SystemExit)
        if not (swept or foreseen):
            raise
        reason, text = failure.write(folder, error, foreseen)
        if swept:
            log.error("job failed: %s", printable(text, CELL) if foreseen else text)
        with suppress(InputError):  # the logger may be what failed
            if chosen:
                logged.log(chosen, words, folder, group, {}, reason)
        return None


def optimized(folder: Path, quantity: str | None) -> float | None:
    """The number of a finished run's summary that a quantity ("robust_loss.interior") names; None without one."""
    if quantity is None or not (folder / "summary.json").is_file():
        return None
    metric, _, statistic = quantity.partition(".")
    value = metrics(jsonfile.read(folder / "summary.json"))[metric][statistic]
    return float(value) if value is not None and math.isfinite(value) else None


def finish(folder: Path) -> int:
    """Print the results of a single run and where they lie; returns the exit status."""
    status, message = failure.read(folder)
    if status:
        print(f"mcr: {printable(message, CELL)}", file=sys.stderr)
    elif (folder / "summary.json").is_file():
        _print(folder)
    return status


def carry_out(cfg: dict[str, Any], folder: Path, group: str) -> dict[str, str]:
    """Make the verb's stages, link them from the run folder, and say where everything lies.

    Returns:
        Label to key of every stage that it stands on, found or made.
    """
    store = Store(cfg["paths"]["store"])
    context = Context(cfg["runtime"], plugins.marked(cfg)["logger"], group, folder.absolute())
    name = title(cfg)
    log.info("%s", printable(name))
    goals = pipeline.plan(cfg, name)[cfg["verb"]]
    made = 0
    for stage, place, state in pipeline.make(goals, store, context):
        made += state == "made"
        log.info("  %-20s %s  %s", stage.label, stage.key, state)
        _link(place, folder / "stages" / stage.label.replace(" ", "-"))
    if cfg["verb"] in REPORTED:
        _copy_report(store.folder(goals[0]), folder)
    if cfg["verb"] == "repair":
        shutil.copyfile(store.folder(goals[0].needs.get("refit", goals[0].needs["choose"])) / CLEANED, folder / CLEANED)
        costs.add(folder, store.folder(goals[0]))
    if not made:
        log.info("nothing to compute: every stage was in %s", store.root)
    return {stage.label: stage.key for stage in pipeline.ordered(goals)}


def wandb_place(folder: Path, below: str = "") -> dict[str, str]:
    """The line that says where W&B's offline runs lie, if there are any."""
    runs = sorted(folder.glob(f"{below}wandb/offline-run-*"))
    return {"W&B": f"{folder}/{below}wandb ({len(runs)} offline runs; send them with wandb sync)"} if runs else {}


def _print(folder: Path) -> None:
    from mcr.app.terminal import print_merge, print_repair, print_results

    summary = jsonfile.read(folder / "summary.json")
    if summary.get("kind") == "repair":
        places: dict[str, Path | str] = {"network": folder / CLEANED, "card": folder / "card.md"}
        print_repair(summary, {**places, "figure": folder / "figure.png", **wandb_place(folder)})
        return
    if summary.get("kind") == "merge":
        print_merge(summary, {"network": folder / MERGED, "card": folder / "card.md", **wandb_place(folder)})
        return
    verdicts = [("path", Verdict(**claim)) for claim in summary["claims"]]
    places = {"figure": folder / "figure.png", "tables": folder / "report.md"}
    print_results([(summary["title"], summary)], verdicts, {**places, **wandb_place(folder)})


def _targets(tree: Any) -> Iterator[str]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            if key == "_target_":
                yield value
            yield from _targets(value)


def _link(target: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(target, link.parent), target_is_directory=True)


def _copy_report(source: Path, folder: Path) -> None:
    """Reports are what people open and send on, so they are files in the run folder, not links."""
    for path in sorted(source.iterdir()):
        if path.name != "stage.json":
            shutil.copyfile(path, folder / path.name)

"""The joint report of repairs: methods side by side. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcr.evaluation.table import write_csv
from mcr.reports import captions, document, joint, repair_dots, repair_figures, repairs
from mcr.reports.claims import Verdict
from mcr.reports.factor_tables import ByFactor
from mcr.reports.factors import Design
from mcr.reports.overview import Overview
from mcr.reports.sheets import save_sheets, some_at_a_time

ASIDE = ("replicate", "repair", "repair.budget.images")  # rows and columns of the tables, which settings do not name


def write(
    folder: Path, done: Sequence[joint.Finished], failures: joint.Failures
) -> tuple[list[dict[str, Any]], list[tuple[str, Verdict]], Overview]:
    """The table and the figure of repairs, as report.md, repairs.csv, figure.* and summary.json.

    Args:
        folder: Where they go.
        done: The finished jobs, at least one.
        failures: The others.

    Returns:
        A row for each setting, method and number of images, the verdicts, and how the sweep ended.
    """
    summaries = [job.summary for job in done]
    titles = [summary["title"] for summary in summaries]
    # Where nothing else varies, the labels are the titles, which end with the method and the number of images.
    names = [
        label.rsplit(", ", 1)[0] if label == title else label
        for label, title in zip(joint.labels([job.settings for job in done], titles, ASIDE), titles, strict=True)
    ]
    config = done[0].config
    level = config["statistics"]["level"]
    told = [f"{name}, replicate {one['replicate']}" for name, one in zip(names, summaries, strict=True)]
    by_factor = ByFactor.of(Design.of(done, told), config["report"], level)
    summaries = [job.known for job in joint.jobs(told, summaries, config["soundness"])]
    found = repairs.rows(names, summaries, level)
    write_csv(folder / "repairs.csv", found)
    by_factor.write(folder)
    counts = {f"{one['measured_on']['which']} {one['measured_on']['images']}" for one in summaries}
    settings = captions.settings(titles, [], "".join(counts) if len(counts) == 1 else "")
    columns = list(dict.fromkeys(row["setting"] for row in found))
    draw = repair_dots.dots_figure if repair_dots.fits(found) else repair_figures.methods_figure
    drawn = [draw([row for row in found if row["setting"] in part], settings) for part in some_at_a_time(columns)]
    sheets = save_sheets(drawn, folder, config["report"]["formats"], config["report"]["dpi"])
    whole = [
        f"{name}, {summary['repair']}, N = {summary['images']}, replicate {summary['replicate']}"
        for name, summary in zip(names, summaries, strict=True)
    ]
    verdicts = [
        (name, Verdict(**claim)) for name, summary in zip(whole, summaries, strict=True) for claim in summary["claims"]
    ]
    verdicts += repairs.verdicts(names, summaries, config["claims"], level)
    sections = ["# Repairs\n"]
    sections += [joint.failed_section(failures)] if failures else []
    sections += [f"![repairs]({name}.png)\n" for name in sheets]
    sections += [
        repairs.section(name, [row for row in found if row["setting"] == name], summaries[names.index(name)])
        for name in dict.fromkeys(names)
    ]
    sections += by_factor.sections([name for name, one in zip(whole, summaries, strict=True) if repairs.notes(one)])
    sections += [document.claims_section(verdicts)] if verdicts else []
    (folder / "report.md").write_text("\n".join(sections), encoding="utf-8")
    named = [{**summary, "name": name} for name, summary in zip(whole, summaries, strict=True)]
    joint.write_summary(folder, {"jobs": named, "rows": found, "by_factor": by_factor.described()}, failures)
    return found, verdicts, by_factor.overview(len(failures))

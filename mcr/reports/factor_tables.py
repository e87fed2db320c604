"""What a joint report says by factor: its sections, its files, and the words at the end of a sweep. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcr.evaluation.table import write_csv
from mcr.reports import differences
from mcr.reports.differences import MOST, Difference
from mcr.reports.factors import Design, Levels
from mcr.reports.latex import tabular
from mcr.reports.numbers import AFTER, INTERIOR, Number
from mcr.reports.overview import Overview
from mcr.reports.pivots import Layout, Pivot, narrow
from mcr.text import markdown_cell, printable

FITTED = "path"
SHOWN = {("", AFTER): "", (FITTED, INTERIOR): "+"}  # the statistic that tables show, and the format of its sign
# The one number that matters, as far as it is measured: first the attack's, then the clean one.
FIRST = (
    Number(FITTED, "robust_loss", INTERIOR),
    Number(FITTED, "test_loss", INTERIOR),
    Number("", "attack_success", AFTER),
    Number("", "injection_success", AFTER),
    Number("", "clean_accuracy", AFTER),
)
MEANING = {
    INTERIOR: "the rise of the path above its highest end (negative: no barrier)",
    AFTER: "the repaired network",
}


@dataclass(frozen=True)
class ByFactor:
    """The numbers of several jobs by what was varied.

    Attributes:
        design: What was varied, and what came out.
        pivot: Its means.
        level: Of the intervals, in (0, 1).
        differences: Between levels.
    """

    design: Design
    pivot: Pivot
    level: float
    differences: Sequence[Difference]

    @classmethod
    def of(cls, design: Design, report: Mapping[str, Any], level: float) -> ByFactor:
        """All that follows from a design.

        Args:
            design: The design.
            report: The settings ``rows`` and ``columns``.
            level: Of the intervals.

        Raises:
            InputError: For a factor that there is not.
        """
        layout = Layout.of(design.factors, report["rows"], report["columns"])
        return cls(design, Pivot.of(design, layout, level), level, differences.between_levels(design, level))

    @property
    def _shown(self) -> list[Number]:
        """The numbers of the report's tables; the files have all."""
        metrics = self.design.metrics
        return [
            number
            for number in self.design.numbers
            if (number.subspace, number.statistic) in SHOWN and metrics[number.metric].label
        ]

    def _tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Title, head and rows: one table a metric, or one for all where no factor makes columns."""
        groups = [[number] for number in self._shown] if self.pivot.layout.columns else [self._shown]
        return [
            (
                self.design.metrics[group[0].metric].title() if len(group) == 1 else "",
                *self.pivot.table(group, SHOWN[group[0].subspace, group[0].statistic]),
            )
            for group in groups
            if group
        ]

    def overview(self, failed: int) -> Overview:
        """How the sweep ended; ``failed`` of its jobs did not."""
        first = next((number for number in FIRST if number in self._shown), None)
        head, rows = self.pivot.table([first], SHOWN[first.subspace, first.statistic]) if first else ([], [])
        title = f"{self.design.metrics[first.metric].title()}: {MEANING[first.statistic]}" if first else ""
        note = f"± half the {self.level:.0%} interval over replicates" if len(self.design.replicates) > 1 else ""
        finished = len(self.design.trials) + len(self.design.repeated)
        factors, labels = self.design.factors, len(self.pivot.layout.rows)
        return Overview(finished, failed, factors, self.design.replicates, title, note, head, rows, labels)

    def sections(self, doubtful: Sequence[str]) -> list[str]:
        """Means and paired differences as Markdown; nothing where nothing but the replicate varies.

        Args:
            doubtful: Names of jobs that a note of the report is about: they are averaged over like any other.
        """
        if not self.design.factors:
            return []
        varied = [
            f"- {markdown_cell(factor)}: {markdown_cell(', '.join(levels), MOST)}"
            for factor, levels in self.design.factors.items()
        ]
        parts = ["## By factor", "\n".join(varied)]
        for title, head, rows in self._tables():
            parts += [f"**{markdown_cell(title)}**"] if title else []
            parts += narrow(head, rows, len(self.pivot.layout.rows))
        parts.append(f"Shown: {' and '.join(dict.fromkeys(MEANING[n.statistic] for n in self._shown))}. {self._read()}")
        if averaged := [name for name in self.design.factors if name not in self._laid]:
            parts.append(f"Averaged over, within each replicate: {markdown_cell(', '.join(averaged))}.")
        if doubtful:
            parts.append(f"Jobs that a note is about are among them: {markdown_cell('; '.join(doubtful), MOST)}.")
        if self.design.repeated:
            names = markdown_cell(", ".join(self.design.repeated), MOST)
            parts.append(f"With settings and replicate of a job before them, and counted once: {names}.")
        return ["\n\n".join(parts) + "\n", *differences.section(self.design, self.differences, self._shown, self.level)]

    @property
    def _laid(self) -> Levels:
        return (*self.pivot.layout.rows, *self.pivot.layout.columns)

    def _read(self) -> str:
        counts = self.pivot.replicates
        if counts == [1]:
            return "One replicate: no interval is known. All statistics: factors.csv, pivot.csv, factors.tex."
        return (
            f"Means over {' or '.join(map(str, counts))} replicates, ± half the width of the {self.level:.0%} interval "
            "(Student's t over replicates, not images). All statistics: factors.csv, pivot.csv, factors.tex."
        )

    def write(self, folder: Path) -> None:
        """factors.csv, pivot.csv, differences.csv and factors.tex."""
        factors = self.design.factors
        cells = self.design.means(list(factors), self.level)
        write_csv(
            folder / "factors.csv",
            [
                {
                    **dict(zip(factors, cell.levels, strict=True)),
                    **cell.number._asdict(),
                    "n": cell.spread["replicates"],
                    **{name: cell.spread[name] for name in ("mean", "low", "high")},
                }
                for cell in cells
            ],
        )
        write_csv(folder / "pivot.csv", self.pivot.records())
        write_csv(folder / "differences.csv", [differences.record(one, factors) for one in self.differences])
        tables = [
            f"% {printable(title)}\n{tabular(head, rows, len(self.pivot.layout.rows))}"
            for title, head, rows in self._tables()
        ]
        (folder / "factors.tex").write_text("\n".join(tables), encoding="utf-8")

    def described(self) -> dict[str, Any]:
        """For summary.json."""
        return {
            "factors": dict(self.design.factors),
            "replicates": list(self.design.replicates),
            "rows": list(self.pivot.layout.rows),
            "columns": list(self.pivot.layout.columns),
            "repeated": list(self.design.repeated),
        }

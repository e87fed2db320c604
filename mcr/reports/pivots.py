"""Tables with factors as rows and columns. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcr.errors import InputError
from mcr.evaluation.table import markdown
from mcr.metric import Metric
from mcr.reports.factors import REPLICATE, Design, Levels
from mcr.reports.numbers import Number

WIDTH = 80  # characters of a table where its columns allow it
RULES = 3  # characters between two columns of a table


@dataclass(frozen=True)
class Layout:
    """Which factors make rows and which columns; what neither names is averaged over.

    Attributes:
        rows: Factors.
        columns: Factors.
    """

    rows: Levels
    columns: Levels

    @classmethod
    def of(cls, factors: Mapping[str, Levels], rows: Sequence[str], columns: Sequence[str]) -> Layout:
        """The layout that is asked for, or one that fits; see conf/report.

        Args:
            factors: That there are, to their levels.
            rows: Of the settings.
            columns: Of the settings.

        Raises:
            InputError: For a factor that there is not, or one that stands in both.
        """
        for name, asked in (("rows", rows), ("columns", columns)):
            for factor in asked:
                if factor not in factors:
                    known = ", ".join(factors) or "none"
                    text = f"report.{name}: {factor} does not vary over the jobs; what does: {known}"
                    raise InputError(text + (" (the replicate is averaged over)" if factor == REPLICATE else ""))
        if twice := [factor for factor in rows if factor in columns]:
            raise InputError(f"report.rows and report.columns both name {twice[0]}: one of them")
        rest = [factor for factor in factors if factor not in (*rows, *columns)]
        if rows and not columns:
            return cls(tuple(rows), tuple(rest))
        if columns and not rows:
            return cls(tuple(rest), tuple(columns))
        if rows:
            return cls(tuple(rows), tuple(columns))
        few = [min(rest, key=lambda factor: len(factors[factor]))] if len(rest) > 1 else []
        return cls(tuple(factor for factor in rest if factor not in few), tuple(few))


@dataclass(frozen=True)
class Pivot:
    """Numbers by the factors of a layout.

    Attributes:
        layout: Of rows and columns.
        metrics: Name to metric.
        cells: Levels of the rows, levels of the columns and number to its mean and interval over replicates.
    """

    layout: Layout
    metrics: Mapping[str, Metric]
    cells: Mapping[tuple[Levels, Levels, Number], Mapping[str, float]]

    @classmethod
    def of(cls, design: Design, layout: Layout, level: float) -> Pivot:
        """The pivot of a design; ``level`` of its intervals."""
        count = len(layout.rows)
        return cls(
            layout,
            design.metrics,
            {
                (cell.levels[:count], cell.levels[count:], cell.number): cell.spread
                for cell in design.means([*layout.rows, *layout.columns], level)
            },
        )

    @property
    def replicates(self) -> list[int]:
        """The numbers of replicates that the cells have."""
        return sorted({int(spread["replicates"]) for spread in self.cells.values()})

    def table(self, numbers: Sequence[Number], sign: str) -> tuple[list[str], list[list[str]]]:
        """Head and rows as text: the levels of the row factors, then for each column and number its mean.

        Behind a mean stands half the width of its interval, and the number of replicates where cells differ in it.

        Args:
            numbers: Which; of one only the levels of the column factors stand in the head.
            sign: Format of a mean's sign: "+" where they are differences.
        """
        rows = list(dict.fromkeys(row for row, _, number in self.cells if number in numbers))
        places = list(dict.fromkeys(column for _, column, number in self.cells if number in numbers))
        heads = [(column, number) for column in places for number in numbers]
        text = [[*row, *(self._cell((row, column, number), sign) for column, number in heads)] for row in rows]
        return [*map(short, self.layout.rows), *(self._head(*head, len(numbers) > 1) for head in heads)], text

    def _head(self, levels: Levels, number: Number, several: bool) -> str:
        said = [said_of(*one) for one in zip(self.layout.columns, levels, strict=True)]
        return " ".join([*said, *([self.metrics[number.metric].title()] if several or not said else [])])

    def _cell(self, place: tuple[Levels, Levels, Number], sign: str) -> str:
        if place not in self.cells:
            return ""
        spread = self.cells[place]
        count = f" (n = {spread['replicates']})" if len(self.replicates) > 1 else ""
        return mean_text(self.metrics[place[2].metric], spread, sign) + count

    def records(self) -> list[dict[str, Any]]:
        """For a file: a row for each number and levels of the row factors, with the columns' means and intervals."""
        found: dict[tuple[Levels, Number], dict[str, Any]] = {}
        for (row, column, number), spread in self.cells.items():
            levels = dict(zip(self.layout.rows, row, strict=True))
            record = found.setdefault((row, number), {**number._asdict(), **levels})
            said = " ".join(said_of(*one) for one in zip(self.layout.columns, column, strict=True))
            for name, told in (("mean", "mean"), ("low", "low"), ("high", "high"), ("n", "replicates")):
                record[f"{said} {name}".strip()] = spread[told]
        return list(found.values())


def short(factor: str) -> str:
    """The last word of a factor's name, which tables have room for."""
    return factor.rsplit(".", 1)[-1]


def said_of(factor: str, level: str) -> str:
    """A level in a head: an option's name speaks for itself; a number or a list needs its factor.

    >>> said_of("curve", "bezier"), said_of("attack.eps", "8/255")
    ('bezier', 'eps=8/255')
    """
    return level.replace("_", "-") if level[:1].isalpha() else f"{short(factor)}={level}"


def mean_text(metric: Metric, spread: Mapping[str, float], sign: str) -> str:
    """A mean, and half the width of its interval where there are several replicates."""
    return metric.text(spread["mean"], sign) + metric.error((spread["high"] - spread["low"]) / 2)


def parts(head: Sequence[str], rows: Sequence[Sequence[str]], labels: int) -> list[tuple[list[str], list[list[str]]]]:
    """A table, or several where it would be too wide for a page; each has the names of the rows.

    Args:
        head: Of the columns.
        rows: Of text.
        labels: How many of the columns are names of rows.
    """
    widths = [max(3, *(len(cell) for cell in column)) + RULES for column in zip(head, *rows, strict=True)]
    found: list[list[int]] = []
    for index in range(labels, len(head)):
        used = 1 + sum(widths[:labels]) + sum(widths[one] for one in found[-1]) if found else WIDTH
        if used + widths[index] > WIDTH:
            found.append([])
        found[-1].append(index)
    picked = [[*range(labels), *part] for part in found]
    return [([head[i] for i in part], [[row[i] for i in part] for row in rows]) for part in picked]


def narrow(head: Sequence[str], rows: Sequence[Sequence[str]], labels: int) -> list[str]:
    """The same as Markdown."""
    return [markdown(*part) for part in parts(head, rows, labels)]

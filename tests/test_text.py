"""Text from outside in every place where it is shown: read back by what reads it there, it is the same text."""

from __future__ import annotations

import csv
import doctest
import importlib
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from matplotlib.figure import Figure
from PIL import Image

from mcr.app import terminal
from mcr.errors import InputError
from mcr.evaluation.table import markdown, write_csv
from mcr.plans import pipeline
from mcr.reports import card_document, cards, document, joint, robustness
from mcr.reports.claims import Verdict
from mcr.text import CELL, IN_FIGURE, csv_cell, figure_text, markdown_cell, markdown_code, printable
from tests.conftest import carried_out
from tests.processes import mcr
from tests.test_repair_command import NET, WORDS
from tests.test_repair_reports import candidates, card

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</td><script>alert(1)</script>",
    "a|b",
    "a\\|b\\",
    "two\nlines\r\nand | a third",
    "`c` and ``d",
    "$x_$ and $$",
    "=1+1",
    "@SUM(A1)",
    "-1+cmd|' /C calc'!A0",
    "\t=1",
    "![i](http://a)",
    "[a](javascript:alert(1))",
    "[a][b]",
    "<http://a>",
    "*a* **b** _c_ __d__ ~~e~~",
    "&lt;b&gt; &#60;",
    "# heading",
    "> quote",
    "- item",
    "evil\u202egnp.exe\u2066\u200b",
    "\x1b[2Jgone\x07\x9b31m",
    "half \ud800",
    "[bold red]rich[/bold red]",
    "x" * 500,
    "語 and ö and 👩‍👩‍👧",
)
READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
MARKUP = {"em_open", "strong_open", "s_open", "code_inline", "link_open", "image", "html_inline", "html_block"}


def tokens(text: str) -> list[Token]:
    return [one for token in READER.parse(text) for one in (token, *(token.children or []))]


def content(token: Token) -> str:
    """What a reader sees of a heading, paragraph or cell."""
    return "".join(child.content for child in token.children or [])


@pytest.mark.parametrize("module", ["text", "metric", "reports.images", "numerics.statistics"])
def test_examples_in_docstrings_hold(module: str) -> None:
    assert doctest.testmod(importlib.import_module(f"mcr.{module}")).failed == 0


@pytest.mark.parametrize("name", HOSTILE)
def test_text_is_one_line_that_a_terminal_shows_and_does_not_obey(name: str) -> None:
    shown = printable(name)
    assert shown.isprintable() or "\u200d" in shown
    assert len(shown) <= 300
    shown.encode()
    assert printable(shown) == shown
    if len(name) <= 300 and name.isprintable():
        assert shown == name


def test_both_ends_of_a_long_text_stay() -> None:
    text = "/home/me/" + 500 * "x" + "/network.pt"
    assert printable(text).startswith("/home/me/x")
    assert printable(text).endswith("x/network.pt")
    assert len(printable(text)) == 300
    assert printable("x" * 300) == "x" * 300


@pytest.mark.parametrize("name", HOSTILE)
def test_a_cell_of_markdown_is_the_text_and_nothing_else(name: str) -> None:
    found = tokens(markdown([name, "second"], [[name, "1.0"], ["a", name]]))
    assert not {token.type for token in found} & MARKUP
    cells = [content(token) for token in found if token.type == "inline"]
    shown = printable(name, CELL).strip()
    assert [re.sub(" +", " ", cell) for cell in cells] == [
        re.sub(" +", " ", cell) for cell in (shown, "second", shown, "1.0", "a", shown)
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_sentence_a_heading_and_a_name_in_code_are_the_text(name: str) -> None:
    for text, kind in ((f"# {markdown_cell(name)}", "heading_open"), (f"- {markdown_cell(name)}", "list_item_open")):
        found = tokens(text)
        assert not {token.type for token in found} & MARKUP
        assert sum(token.type == kind for token in found) == 1
        assert content(next(token for token in found if token.type == "inline")) == printable(name, CELL).strip()
    (code,) = (token for token in tokens(f"The rule {markdown_code(name)} chose.") if token.type == "code_inline")
    assert code.content == printable(name, CELL).replace("`", "'")


def test_what_the_package_says_itself_stays_as_it_is() -> None:
    for text in ("robust_loss interior > 0.0 by 2 standard errors", "evaluation.grid=[0.1,0.5]", "+0.5 ± 0.1", "a < b"):
        assert markdown_cell(text) == text


@pytest.mark.parametrize("name", HOSTILE)
def test_a_spreadsheet_takes_no_name_for_a_formula(name: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [{name: "1", "class": name, "value": -0.5, "error": float("nan")}])
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as stream:
        columns, row = list(csv.reader(stream))
    for cell in (columns[0], row[1]):
        assert cell.removeprefix("'") == printable(name, 10_000)
        assert cell.lstrip()[0] not in "=+-@"
    assert row[2:] == ["-0.5", ""]


@pytest.mark.parametrize("number", ["-1", "+2.000 ± 0.250", "1e-3", "-.5", "+0.1", "3."])
def test_a_number_in_a_table_is_no_formula(number: str) -> None:
    assert csv_cell(number) == number


@pytest.mark.drawn
@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
def test_a_figure_shows_names_and_reads_no_formula_in_them(tmp_path: Path) -> None:
    for name in HOSTILE:
        figure = Figure(figsize=(2, 1))
        axis = figure.subplots()
        axis.set_title(figure_text(name))
        figure.savefig(tmp_path / "a.svg")
        figure.savefig(tmp_path / "a.png")
        ElementTree.parse(tmp_path / "a.svg")
        assert len(figure_text(name).replace(r"\$", "$")) <= IN_FIGURE
        assert "\n" not in figure_text(name)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_card_a_report_and_the_terminal_show_names_as_they_are(name: str, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    of_class = {name: {"start": 0.9, "end": 0.91, "untampered": 0.92, "after": 0.83}}
    made = card(title=name, per_class=of_class, of_each_class={name: 3, "dog": 0}, settings={name: name})
    made["measured_on"]["classes"] = {name: 170}
    made["warnings"] = cards.warnings(card(of_each_class={name: 0}))
    verdict = Verdict(name, name, 1.0, held=True)
    barrier = ["path", "loss", "1 / 2", "3", "0.5", "+1", "1", "1"]
    texts = [
        card_document.document(made, candidates(), [verdict]),
        document.claims_section([(name, verdict), (name, verdict.without_test([name]))]),
        document.barrier_section([[name, *barrier[1:]]], [name]),
        joint.failed_section([{"job": "1", "name": name, "reason": name}]),
        *robustness.warning_lines([name]),
    ]
    for text in texts:
        found = tokens(text)
        images = [token for token in found if token.type == "image"]
        assert all(token.attrs["src"] == "figure.png" for token in images)
        code = [token.content for token in found if token.type == "code_inline"]
        assert set(code) <= {"path_point", "farthest"}
        assert not {token.type for token in found} & (MARKUP - {"image", "code_inline", "strong_open"})
        assert "\x1b" not in text
    terminal.print_results([], [(name, verdict), (name, verdict.without_test([name]))], {"tables": Path("x")})
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 5
    assert printable(name, 4000) in said


# ------------------------------------------------------------------------------------------------------ whole runs


@pytest.mark.drawn
def test_labels_of_anything_go_through_a_whole_report(config, tmp_path: Path) -> None:
    cfg = config("report.formats=[png,svg]", "report.dpi=20", "attack=none", "evaluation.hessian_images=0")
    cfg["references"]["straight"]["label"] = "<b>|$x_$\n\x1b[2J=1"
    cfg["endpoints"]["end"]["label"] = "*a*\u202e<img src=x>"
    place = carried_out(cfg | {"verb": "report"}, "report", tmp_path)["report"][0]
    text = (place / "report.md").read_text()
    assert "\x1b" not in text
    assert "\u202e" not in text
    found = tokens(text)
    assert not {token.type for token in found} & {"html_inline", "html_block", "em_open"}
    rows = [
        line.replace(r"\|", "").split("|") for line in text.splitlines() if line.startswith(("| curve", "| &lt;b>"))
    ]
    assert {len(row) for row in rows} == {10}
    assert len(rows) == 8  # two paths, two losses and two errors
    ElementTree.parse(place / "figure.svg")
    with (place / "barriers.csv").open(newline="") as stream:
        assert {row["path"] for row in csv.DictReader(stream)} == {"curve", r"<b>|$x_$\n\x1b[2J=1"}


@pytest.mark.parametrize("group", ["probes", "endpoints", "references"])
@pytest.mark.parametrize("name", ["../../x", "a b", "", "=1", "a|b", "a\n", "x" * 61, "-a", "<b>"])
def test_a_name_that_would_be_a_file_or_a_column_is_refused(group: str, name: str, config) -> None:
    cfg = config()
    cfg[group] = {**cfg[group], name: next(iter(cfg[group].values()))}
    with pytest.raises(InputError, match=rf"^{group}: .* is no name: letters, digits, _ and -, at most 60$"):
        pipeline.plan(cfg)


def test_class_folders_of_any_name_go_through_a_whole_repair(tmp_path: Path) -> None:
    """From the folder to the card: names of classes, each with its own trouble."""
    import torch

    names = [name for name in HOSTILE if "/" not in name and "\ud800" not in name and len(name.encode()) < 255][:12]
    for label, name in enumerate(names):
        (tmp_path / "clean" / name).mkdir(parents=True)
        for index in range(4):
            Image.new("L", (8, 8), 20 * label + index).save(tmp_path / "clean" / name / f"{index}.png")
    (tmp_path / "my_nets.py").write_text(NET)
    found: dict = {}
    exec(NET, found)
    for number in range(2):
        torch.manual_seed(number)
        torch.save(found["Net"](len(names), 1).state_dict(), tmp_path / f"{number}.pt")
    words = ("repair=path_point", "repair.grid=3", "report.formats=[png]", "report.dpi=20")
    done = mcr(*WORDS, *words, "0.pt", "1.pt", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "multirun" / "runs").iterdir()
    text = (folder / "card.md").read_text()
    table = text.split("## Accuracy of each class, %")[1].split("\n## ")[0]
    rows = [content(token) for token in tokens(table) if token.type == "inline"]
    classes = json.loads((folder / "card.json").read_text())["measured_on"]["classes"]
    assert {printable(name, CELL).strip() for name in classes} <= {row.strip() for row in rows}
    assert not {token.type for token in tokens(text)} & {"html_inline", "html_block", "link_open", "em_open"}
    for said in (text, done.stdout, done.stderr):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", said)

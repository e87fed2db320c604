"""Repair cards, their warnings and figures, and repairs side by side: made-up numbers against numpy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mcr.errors import InputError
from mcr.metric import Metric
from mcr.reports import card_document, cards, repair_dots, repair_figures, repairs
from mcr.reports.claims import Verdict
from mcr.stages.candidates import _name
from mcr.stages.scorecard import effect

# Cards

METRICS = {
    "clean_accuracy": Metric("clean_accuracy", "share", "higher", "accuracy"),
    "attack_success": Metric("attack_success", "share", "lower", "attack success"),
    "injection_success": Metric("injection_success", "share", "lower", "attack success"),
}
LEVEL = 0.95


def described(names) -> dict[str, dict[str, Any]]:
    return {name: vars(metric) for name, metric in METRICS.items() if name in names}


def card(**changes: Any) -> dict[str, Any]:
    """A card that nobody need be warned of; a dotted name changes one value inside."""
    made: dict[str, Any] = {
        "title": "digits, small_cnn",
        "repair": "path_point",
        "replicate": 0,
        "images": 2500,
        "chosen": {"rate": 0.03, "t": 0.35, "accuracy": 0.9, "from_start": 0.2, "from_end": 0.3},
        "suspicion": {},
        "transfer": {},
        "kept": True,
        "better_less_margin": 0.88,
        "allowed_t": [[0.15, 0.35], [0.75, 0.75]],
        "ends": ["start", "end"],
        "warn": {"near_end": 0.1, "lost": 0.05, "success": 0.1, "estimated": 0.3},
        "held_out": {"images": 2000, "ends": {"start": 0.91, "end": 0.9}},
        "measured_on": {
            "images": 321,
            "which": "test images",
            "chose": False,
            "metrics": {"clean_accuracy": 321, "attack_success": 290, "injection_success": 4},
            "classes": {"cat": 170},
        },
        "metrics": {
            "clean_accuracy": {
                "start": 0.915,
                "end": 0.905,
                "untampered": 0.925,
                "after": 0.895,
                "after_se": 0.005,
                "lost": 0.02,
            },
            "attack_success": {"start": 0.99, "end": 0.98, "untampered": 0.012, "after": 0.034, "after_se": 0.006},
            "effect": {"lost": 0.02, "taken": 0.956, "der": 0.968},
        },
        "per_class": {"cat": {"start": 0.9, "end": 0.91, "untampered": 0.92, "after": 0.83}},
        "agreement": {"start": 0.941, "end": 0.931},
        "reactivation": {
            "start": {"0": 0.99, "5": 1.0},
            "untampered": {"0": 0.012, "5": 0.21},
            "after": {"0": 0.034, "5": 0.44},
        },
        "selection": {"_target_": "mcr.selection.farthest.Farthest", "margin": 0.03, "standard_errors": 1.0},
        "of_each_class": {"cat": 1249, "dog": 1251},
        "sha256": {"start": "aaa", "cleaned": "bbb"},
        "injected": {},
        "read": {"start": ["read: net", "would fit too, not read: net_ema"]},
        "searched": [
            {"repair": "path_point", "rate": 0.1, "candidates": 19, "allowed": 4, "best": 0.9, "estimated": 0.2}
        ],
        "settings": {"grid": 21, "steps": 2000, "one_model": False},
        "warnings": [],
    }
    for path, value in changes.items():
        *outer, last = path.split("__")
        place = made
        for name in outer:
            place = place[name]
        place[last] = value
    made["descriptions"] = described(made["metrics"])
    made["chosen"] = {"repair": "path_point", "accuracy": 0.89, "lost": 0.02, "lost_se": 0.012, **made["chosen"]}
    made["taken"] = {"how": "chosen", **made["chosen"]} | made.get("taken", {})
    return made


INJECTED = {"after": 0.05, "after_se": 0.01, "start": 1.0, "end": 1.0, "untampered": 0.0}
CLEAN = card()["metrics"]["clean_accuracy"]
UNKNOWN = {"clean_accuracy": CLEAN, "effect": {"lost": 0.02}}

SIGNALS = {"masks": {"suspect": 0.9, "reference": 0.25, "contrast": 0.65, "tells": True}}

# What is changed, and what the one warning says of it.
WARNED = {
    "no candidate kept": ({"kept": False}, "no candidate kept"),
    "few held-out images": ({"held_out__images": 100}, "100 held-out images know an accuracy to ± 2.9 points"),
    "a narrow margin": ({"selection__margin": 0.01}, "the margin is 1.0"),
    "near the start": ({"chosen": {"t": 0.1}}, "t = 0.10 lies near an end"),
    "near the end": ({"chosen": {"t": 0.9}}, "t = 0.90 lies near an end"),
    "near a corner": ({"chosen": {"u": 0.95, "v": 0.04}}, "u = 0.95, v = 0.04 lies near an end"),
    "accuracy lost": ({"metrics__clean_accuracy__lost": 0.06}, "6.0 points of clean accuracy are lost"),
    "an empty class": ({"of_each_class": {"cat": 3, "dog": 0, "cow": 0}}, "no clean image of classes dog, cow"),
    "no trigger": ({"metrics": UNKNOWN}, "no trigger is known"),
    "backdoor left": ({"metrics__attack_success__after": 0.11}, "still there"),
    "all of it left where half would have that label anyway": (
        {"metrics": card()["metrics"] | {"attack_without_trigger": INJECTED | {"after": 0.5}}}
        | {"metrics__attack_success__after": 1.0},
        "attack success 100.0 %",
    ),
    "errors left": (
        {"metrics": UNKNOWN | {"injection_success": INJECTED | {"after": 0.2}}},
        "still there",
    ),
    "no test images": (
        {"measured_on__chose": True},
        "no test images",
    ),
    "one model": ({"settings__one_model": True}, "made from the first"),
    "much left by the signals": (
        {"suspicion": SIGNALS, "chosen": {"t": 0.5, "estimated_success": 0.31, "signal_masks": 0.5}},
        "31.0 % of what is hidden",
    ),
    "nothing to see": (
        {
            "suspicion": {"masks": SIGNALS["masks"] | {"tells": False}},
            "chosen": {"t": 0.5, "estimated_success": 0.0, "signal_masks": 0.2},
        },
        "no signal tells",
    ),
}
SILENT = {
    "nothing": {},
    "just enough held-out images": {"held_out__images": 380},  # 0.91 * 0.09 / 0.015^2 is 364
    "off the ends": {"chosen": {"t": 0.11}},
    "off the other end": {"chosen": {"t": 0.89}},
    "on an edge of a surface": {"chosen": {"u": 0.95, "v": 0.5}},
    "a threshold that is called u": {"chosen": {"u": 0.05}},
    "what the trigger adds to chance": {
        "metrics": card()["metrics"] | {"attack_without_trigger": INJECTED | {"after": 0.5}},
        "metrics__attack_success__after": 0.54,
    },
    "on no path": {"chosen": {"draw": 3}},
    "little lost": {"metrics__clean_accuracy__lost": 0.05},
    "more accurate than before": {"metrics__clean_accuracy__lost": -0.3},
    "one image of a class": {"of_each_class": {"cat": 1}},
    "little of the backdoor": {"metrics__attack_success__after": 0.1},
    "little left by the signals": {
        "suspicion": SIGNALS,
        "chosen": {"t": 0.5, "estimated_success": 0.3, "signal_masks": 0.5},
    },
    "few errors": {"metrics": UNKNOWN | {"injection_success": INJECTED | {"after": 0.1}}},
}


@pytest.mark.parametrize("name", WARNED)
def test_a_warning_appears_for_its_reason_and_alone(name: str) -> None:
    changes, words = WARNED[name]
    (found,) = cards.warnings(card(**changes))
    assert words in found


def test_places_of_three_dimensions_are_told_apart() -> None:
    rows = [{"rate": 0.1, "u1": 0.2, "u2": 0.3, "u3": last, "accuracy": 0.5} for last in (0.1, 0.4)]
    assert [cards.candidate(row) for row in rows] == [f"rate 0.1 u1 0.2 u2 0.3 u3 {last}" for last in (0.1, 0.4)]
    assert len({_name(row) for row in rows}) == 2
    assert cards.candidate({"accuracy": 0.5, "off_centre": 0.2}) == cards.ONLY


def test_what_is_not_known_is_said_so() -> None:
    assert cards.percent(float("nan")) == "not known"
    chosen = {"t": 0.5, "estimated_success": 0.0, "signal_masks": 0.2}
    for tells, said in (
        (True, "Estimated share of a hidden attack that is left: **0.0 %**"),
        (False, "No estimate: no"),
    ):
        text = card_document._suspicion(card(suspicion={"masks": SIGNALS["masks"] | {"tells": tells}}, chosen=chosen))
        assert said in text
        assert ("0.0 %" in text) == tells


@pytest.mark.parametrize("name", SILENT)
def test_without_a_reason_there_is_no_warning(name: str) -> None:
    assert cards.warnings(card(**SILENT[name])) == []


def test_reasons_add_up() -> None:
    changes = {"kept": False, "settings__one_model": True, "chosen": {"t": 0.05}, "held_out__images": 5}
    assert len(cards.warnings(card(**changes))) == 4


def test_errors_that_stay_are_told_beside_a_backdoor_that_is_gone() -> None:
    found = cards.warnings(card(metrics=card()["metrics"] | {"injection_success": INJECTED | {"after": 0.9}}))
    assert any("still there" in line for line in found)


def test_a_single_held_out_image_is_coarse_even_if_it_is_right() -> None:
    assert any(
        "coarse" in line for line in cards.warnings(card(held_out={"images": 1, "ends": {"start": 1.0, "end": 1.0}}))
    )


def candidates(**changes: Any) -> list[dict[str, Any]]:
    rows = []
    for index in range(5):
        rows.append(
            {
                "rate": 0.03,
                "t": round(0.15 + 0.1 * index, 6),
                "accuracy": 0.9 - 0.01 * index,
                "from_start": 0.1 * (index + 1),
                "from_end": 0.25,
                "allowed": index < 3,
                "chosen": index == 2,
                "clean_accuracy": 0.89 - 0.01 * index,
                "attack_success": 0.5 - 0.1 * index,
            }
        )
    return rows


def elsewhere(place: str) -> list[dict[str, Any]]:
    """The same candidates, but on no path: told apart by rate or by draw."""
    aside = ("t", "rate")
    return [
        {place: 10.0**-index if place == "rate" else index, **{k: v for k, v in row.items() if k not in aside}}
        for index, row in enumerate(candidates())
    ]


def table(text: str, heading: str) -> list[list[str]]:
    """The cells of the first Markdown table below a heading, its head first."""
    lines = text.split(f"## {heading}", 1)[1].split("\n## ", 1)[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1
    return [rows[0], *rows[2:]]


CLAIM = Verdict("E4", "attack_success after <= 0.1", 0.034, held=True)


def test_a_card_says_what_was_before_and_after() -> None:
    text = card_document.document(card(), candidates(), [])
    assert text.startswith("# Repair card: digits, small_cnn\n")
    assert "On 321 test images." in text
    assert table(text, "Before and after") == [
        ["", "start", "end", "untampered", "repaired", "images"],
        ["clean accuracy %", "91.5", "90.5", "92.5", "89.5 ± 0.5", "321"],
        ["attack success %", "99.0", "98.0", "1.2", "3.4 ± 0.6", "290"],
        ["defence effectiveness %", "", "", "", "96.8, 2.0 points lost", ""],
        ["agrees with the repaired %", "94.1", "93.1", "", "", "321"],
    ]
    assert table(text, "Accuracy of each class") == [
        ["class", "start", "end", "untampered", "repaired", "images"],
        ["cat", "90.0", "91.0", "92.0", "83.0", "170"],
    ]
    assert table(text, "Does the backdoor come back?") == [
        ["network", "0", "5"],
        ["start", "99.0", "100.0"],
        ["untampered", "1.2", "21.0"],
        ["repaired", "3.4", "44.0"],
    ]
    assert "## Warnings" not in text
    assert "## Claims" not in text


def test_a_card_says_what_the_signals_say_of_whom() -> None:
    chosen = {"rate": 0.03, "t": 0.35, "estimated_success": 0.125, "signal_masks": 0.33}
    searched = [{"repair": "augmented", "rate": 0.1, "candidates": 1, "allowed": 1, "best": 0.9, "estimated": 0.125}]
    made = card(suspicion=SIGNALS, chosen={"repair": "augmented", **chosen}, repair="portfolio", searched=searched)
    rows = [row | {"estimated_success": 0.01 * index} for index, row in enumerate(candidates())]
    text = card_document.document(made, rows, [])
    assert table(text, "What the signals say") == [
        ["signal", "start", "scratch", "repaired", "contrast"],
        ["masks", "0.900", "0.250", "0.330", "+0.650"],
    ]
    assert "**12.5 %**" in text
    assert "Repair `portfolio`, rule `farthest`" in text
    assert ": augmented, rate = 0.03, t = 0.35." in text
    assert table(text, "Choice")[1] == ["augmented", "0.1", "1", "1", "90.0", "12.5"]
    assert [line[3] for line in table(text, "Candidates")] == ["estimated success %", "0.0", "1.0", "2.0", "3.0", "4.0"]


def test_a_card_says_whether_the_networks_hide_the_same() -> None:
    on = {"start": {"start": 1.0, "end": 0.03, "scratch": 0.05}, "end": {"start": 0.4, "end": 0.35, "scratch": 0.0}}
    text = card_document.document(card(transfer={"perturbations": on}), candidates(), [])
    assert table(text, "Do the networks hide the same?") == [
        ["perturbations of, success % on", "start", "end", "scratch"],
        ["start", "100.0", "3.0", "5.0"],
        ["end", "40.0", "35.0", "0.0"],
    ]
    assert "hide the same" not in card_document.document(card(), candidates(), [])


def test_a_card_leaves_out_what_nobody_knows() -> None:
    clean = {name: value for name, value in CLEAN.items() if name != "untampered"}
    made = card(
        metrics={"clean_accuracy": clean, "effect": {"lost": 0.02}},
        reactivation={},
        per_class={"cat": {"start": 0.9, "end": 0.91, "after": 0.83}},
    )
    text = card_document.document(made, candidates(), [])
    assert [row[0] for row in table(text, "Before and after")] == ["", "clean accuracy %", "agrees with the repaired %"]
    assert table(text, "Before and after")[0] == ["", "start", "end", "repaired", "images"]
    assert "come back" not in text


@pytest.mark.parametrize("name", WARNED)
def test_every_warning_is_on_the_card(name: str) -> None:
    made = card(**WARNED[name][0])
    made["warnings"] = cards.warnings(made)
    rows = [row | {"injection_success": 0.2, "estimated_success": 0.1} for row in candidates()]
    lines = card_document.document(made, rows, []).split("## Warnings")[1].split("\n## ")[0].splitlines()
    assert [line for line in lines if line] == [f"- {line}" for line in made["warnings"]]


def test_a_card_lists_all_candidates_and_marks_one() -> None:
    rows = candidates()
    found = table(card_document.document(card(), rows, []), "Candidates")
    columns = ["candidate", "held-out acc %", "divergence", "allowed", "clean accuracy %", "attack success %", ""]
    assert found[0] == columns
    assert len(found) == 1 + len(rows)
    for row, line in zip(rows, found[1:], strict=True):
        assert line[0] == f"rate 0.03 t {row['t']:g}"
        assert [float(cell) for cell in (*line[1:3], *line[4:6])] == pytest.approx(
            [
                100 * row["accuracy"],
                min(row["from_start"], row["from_end"]),
                100 * row["clean_accuracy"],
                100 * row["attack_success"],
            ],
            abs=0.051,
        )
        assert line[3] == ("yes" if row["allowed"] else "")
        assert line[6] == ("chosen" if row["chosen"] else "")


@pytest.mark.parametrize(("place", "first"), [("draw", "draw 0"), ("rate", "rate 1")])
def test_a_card_of_candidates_on_no_path_knows_no_t(place: str, first: str) -> None:
    rows = elsewhere(place)
    text = card_document.document(card(chosen={place: rows[2][place]}, allowed_t=[]), rows, [])
    assert table(text, "Candidates")[1][0] == first
    assert "Allowed t" not in text
    assert f"{place} = {rows[2][place]:g}." in text


def test_a_card_says_how_it_was_chosen_and_where_the_files_come_from() -> None:
    text = card_document.document(card(), candidates(), [CLAIM, replace(CLAIM, held=False, source="E5")])
    for words in (
        "Repair `path_point`, rule `farthest`",
        "a margin of 3.0 points and 1 standard error(s)",
        ": rate = 0.03, t = 0.35.",
        "It saw 2000 held-out clean images only",
        "right on 91.0 and 90.0 %; less the margin that is 88.0 %.",
    ):
        assert words in text
    assert "Allowed t at this learning rate: 0.15 to 0.35, 0.75." in text
    assert "rate: none." in card_document.document(card(allowed_t=[]), candidates(), [])
    settings = {line[0]: line[1] for line in table(text, "Files and settings")}
    assert settings["sha256 start"] == "aaa"
    assert settings["sha256 cleaned"] == "bbb"
    assert settings["file of start"] == "read: net; would fit too, not read: net_ema"
    assert settings["clean images"] == "2500 (cat 1249, dog 1251)"
    assert settings["grid"] == "21"
    claims = table(text, "Claims")
    assert [line[0] for line in claims] == ["claim", "E4", "E5"]
    assert [line[3] for line in claims] == ["verdict", "held", "did not hold"]


# The card's figure


def lines_of(axis) -> dict[str, list[float]]:
    """Label to heights of the labelled lines."""
    return {line.get_label(): list(line.get_ydata()) for line in axis.get_lines() if line.get_label()[0] != "_"}


def test_a_card_s_figure_along_a_path() -> None:
    rows, made = candidates(), card()
    (axis,) = repair_figures.card_figure(rows, made).axes
    found = lines_of(axis)
    assert list(found) == [
        "clean accuracy",
        "the networks before",
        "attack success",
        "accuracy, held-out images",
        "better network less the margin",
        "chosen",
    ]
    assert found["clean accuracy"] == [100 * row["clean_accuracy"] for row in rows]
    assert found["attack success"] == [100 * row["attack_success"] for row in rows]
    assert found["accuracy, held-out images"] == [100 * row["accuracy"] for row in rows]
    assert set(found["better network less the margin"]) == {88.0}
    (chosen,) = (line for line in axis.get_lines() if line.get_label() == "chosen")
    assert set(chosen.get_xdata()) == {rows[2]["t"]}
    # The two ends, before the repair: a pair of marks for each metric.
    ends = [line for line in axis.get_lines() if line.get_marker() == "D"]
    assert [list(line.get_xdata()) for line in ends] == [[0, 1], [0, 1]]
    assert [list(line.get_ydata()) for line in ends] == [[91.5, 90.5], [99.0, 98.0]]
    assert len(axis.patches) == len(made["allowed_t"])
    spans = sorted((patch.get_x(), patch.get_x() + patch.get_width()) for patch in axis.patches)
    np.testing.assert_allclose(spans, [(0.10, 0.40), (0.70, 0.80)])
    assert axis.get_xlabel() == "t"
    assert axis.get_title() == "path point, 2500 clean images"
    assert {text.get_text() for text in axis.get_legend().get_texts()} == {*found, "allowed"}


@pytest.mark.parametrize("place", ["draw", "rate"])
def test_a_card_s_figure_of_candidates_on_no_path(place: str) -> None:
    rows = elsewhere(place)
    (axis,) = repair_figures.card_figure(rows, card(repair="noise", allowed_t=[], chosen={place: 2})).axes
    assert not axis.patches
    assert axis.get_xlabel() == "candidate"
    # No line between candidates that are no neighbours, and the start alone beside them.
    drawn = {line.get_label(): line for line in axis.get_lines()}
    assert drawn["clean accuracy"].get_linewidth() == 0
    assert list(drawn["clean accuracy"].get_xdata()) == [0, 1, 2, 3, 4]
    assert [list(line.get_xdata()) for line in axis.get_lines() if line.get_marker() == "D"] == [[-1], [-1]]
    assert set(drawn["chosen"].get_xdata()) == {2}
    names = [text.get_text() for text in axis.get_xticklabels()]
    assert names == ["start", *(f"{place} {row[place]:g}" for row in rows)]


def test_a_card_s_figure_without_a_known_attack() -> None:
    rows = [{name: value for name, value in row.items() if name != "attack_success"} for row in candidates()]
    (axis,) = repair_figures.card_figure(rows[:1], card(metrics=UNKNOWN, allowed_t=[[0.15, 0.15]])).axes
    assert "attack success" not in lines_of(axis)
    assert len(axis.patches) == 1


# Repairs side by side


METHODS = ("path_point", "finetune")
COUNTS = (2500, 50)
SETTINGS = ("badnets", "blended")


def summary(repair: str, images: int, replicate: int, metrics: dict[str, Any]) -> dict[str, Any]:
    known = {"ends": ["start", "end"], "descriptions": described(metrics), "stopped": [], "doubts": []}
    known["measured_on"] = {"images": 321, "which": "test images", "metrics": dict.fromkeys(metrics, 321)}
    found = {**metrics, "effect": effect(metrics, "start")}
    return {"repair": repair, "images": images, "replicate": replicate, "metrics": found, **known}


def jobs(replicates: int = 3, attack: str = "attack_success") -> tuple[list[str], list[dict[str, Any]]]:
    """Random numbers for every setting, method, number of images and replicate, in an order of no meaning."""
    rng = np.random.default_rng(0)
    found = []
    for setting in SETTINGS:
        for repair in METHODS:
            for images in COUNTS:
                for replicate in range(replicates):
                    metrics = {
                        metric: dict(zip(("start", "end", "untampered", "after"), rng.random(4).tolist(), strict=True))
                        for metric in ("clean_accuracy", attack)
                    }
                    found.append((setting, summary(repair, images, replicate, metrics)))
    order = rng.permutation(len(found))
    return [found[index][0] for index in order], [found[index][1] for index in order]


def values(names, summaries, setting: str, repair: str, images: int, quantity: str) -> dict[int, float]:
    """Replicate to value."""
    metric, network = quantity.split(".")
    return {
        found["replicate"]: found["metrics"][metric][network]
        for name, found in zip(names, summaries, strict=True)
        if (name, found["repair"], found["images"]) == (setting, repair, images)
    }


def test_a_row_holds_mean_and_standard_error_over_replicates() -> None:
    names, summaries = jobs()
    found = repairs.rows(names, summaries, LEVEL)
    assert len(found) == len(SETTINGS) * len(METHODS) * len(COUNTS)
    for row in found:
        assert row["replicates"] == 3
        for metric in ("clean_accuracy", "attack_success"):
            for network in ("start", "end", "untampered", "after"):
                place = (row["setting"], row["repair"], row["images"], f"{metric}.{network}")
                expected = np.array(list(values(names, summaries, *place).values()))
                assert row[f"{metric}_{network}"] == pytest.approx(expected.mean())
                assert row[f"{metric}_{network}_se"] == pytest.approx(expected.std(ddof=1) / math.sqrt(3))
    assert not any(key.startswith("injection_success") for row in found for key in row)


def test_a_single_replicate_has_no_standard_error() -> None:
    names, summaries = jobs(replicates=1)
    for row in repairs.rows(names, summaries, LEVEL):
        assert math.isnan(row["clean_accuracy_after_se"])
        assert repairs.cell(row, "clean_accuracy_after") == f"{100 * row['clean_accuracy_after']:.1f}"


def test_a_section_has_a_line_for_each_method_and_a_column_for_each_number_of_images() -> None:
    names, summaries = jobs()
    rows = [row for row in repairs.rows(names, summaries, LEVEL) if row["setting"] == "badnets"]
    text = repairs.section("badnets", rows, summaries[0])
    head, *lines = table(text, "badnets")
    assert head == ["metric", "network", "N = 2500", "N = 50"]
    methods = list(dict.fromkeys(row["repair"] for row in rows))
    known = ["untampered", "start", "end", *(name.replace("_", " ") for name in methods)]
    repaired = known[-len(methods) :]
    assert [line[:2] for line in lines] == [
        *([metric, name] for metric in ("clean accuracy %", "attack success %") for name in known),
        *([metric, name] for metric in ("defence effectiveness %", "points of accuracy lost") for name in repaired),
    ]
    for line in lines[-2 * len(methods) :]:
        name = {"defence effectiveness %": "der", "points of accuracy lost": "lost"}[line[0]]
        for images, cell in zip(COUNTS, line[2:], strict=True):
            (row,) = (r for r in rows if (r["repair"].replace("_", " "), r["images"]) == (line[1], images))
            assert cell == f"{100 * row[name]:.1f} ± {100 * row[f'{name}_se']:.1f}"
    for line in lines[: -2 * len(methods)]:
        metric = {"clean accuracy %": "clean_accuracy", "attack success %": "attack_success"}[line[0]]
        if line[1].replace(" ", "_") in METHODS:
            for images, cell in zip(COUNTS, line[2:], strict=True):
                (row,) = (r for r in rows if (r["repair"].replace("_", " "), r["images"]) == (line[1], images))
                mean, error = 100 * row[f"{metric}_after"], 100 * row[f"{metric}_after_se"]
                assert cell == f"{mean:.1f} ± {error:.1f}"
    assert "3 replicate(s)" in text


def test_a_section_leaves_a_gap_where_nothing_was_measured() -> None:
    names, summaries = jobs(replicates=1)
    kept = [(n, s) for n, s in zip(names, summaries, strict=True) if (s["repair"], s["images"]) != ("finetune", 50)]
    rows = [row for row in repairs.rows(*zip(*kept, strict=True), LEVEL) if row["setting"] == "blended"]
    lines = [line for line in table(repairs.section("blended", rows, summaries[0]), "blended") if line[1] == "finetune"]
    assert len(lines) == 4
    for line in lines:
        assert line[2]
        assert line[3] == ""


def against(**changes: Any) -> dict[str, Any]:
    usual = {
        "source": "E6",
        "repair": "path_point",
        "against": "finetune",
        "quantity": "attack_success.after",
        "relation": "<",
        "value": 0.0,
        "standard_errors": 0,
    }
    return usual | changes


@pytest.mark.parametrize("relation", ["<", ">="])
@pytest.mark.parametrize("value", [-0.2, 0.0, 0.2])
@pytest.mark.parametrize("errors", [0, 1])
def test_methods_are_set_against_each_other_replicate_by_replicate(relation: str, value: float, errors: int) -> None:
    """Paired differences, at the replicates and numbers of images that both methods have."""
    names, summaries = jobs(replicates=4)
    absent = {("finetune", 2500, 1), ("path_point", 2500, 3)}
    kept = [
        (name, found)
        for name, found in zip(names, summaries, strict=True)
        if (found["repair"], found["images"], found["replicate"]) not in absent
        and (name, found["repair"], found["images"]) != ("blended", "finetune", 50)
    ]
    names, summaries = ([pair[index] for pair in kept] for index in (0, 1))
    claim = against(relation=relation, value=value, standard_errors=errors)
    verdicts = dict(repairs.verdicts(names, summaries, [claim], LEVEL))
    assert set(verdicts) == {"badnets, N = 2500", "badnets, N = 50", "blended, N = 2500"}
    for place, verdict in verdicts.items():
        setting, images = place.split(", N = ")
        mine, other = (values(names, summaries, setting, m, int(images), claim["quantity"]) for m in METHODS)
        shared = mine.keys() & other.keys()
        assert len(shared) == (2 if images == "2500" else 4)
        differences = np.array([mine[replicate] - other[replicate] for replicate in shared])
        error = differences.std(ddof=1) / math.sqrt(len(shared))
        assert verdict.measured == pytest.approx(differences.mean())
        mean, slack = differences.mean(), errors * error
        assert verdict.held is bool(mean < value - slack if relation == "<" else mean >= value + slack)
        assert verdict.source == "E6"
        assert "path_point less finetune" in verdict.statement


def test_only_claims_against_a_method_that_was_run_are_judged() -> None:
    names, summaries = jobs()
    alone = {name: value for name, value in against().items() if name != "against"}
    silent = [alone, against(against="scratch"), against(repair="prune"), against(quantity="injection_success.after")]
    assert repairs.verdicts(names, summaries, silent, LEVEL) == []
    disjoint = [s | {"replicate": s["replicate"] + 10 * (s["repair"] == "finetune")} for s in summaries]
    assert repairs.verdicts(names, disjoint, [against()], LEVEL) == []
    with pytest.raises(InputError, match="relation"):
        repairs.verdicts(names, summaries, [against(relation="~")], LEVEL)


def test_a_difference_between_methods_is_told_in_errors_over_replicates() -> None:
    names, summaries = jobs()
    for _, verdict in repairs.verdicts(names, summaries, [against(standard_errors=2)], LEVEL):
        assert "over images" not in verdict.statement
        assert "over replicates" in verdict.statement


@pytest.mark.parametrize("attack", ["attack_success", "injection_success"])
@pytest.mark.parametrize("replicates", [1, 3])
def test_the_figure_of_methods_has_a_curve_for_each(attack: str, replicates: int) -> None:
    names, summaries = jobs(replicates, attack)
    rows = repairs.rows(names, summaries, LEVEL)
    figure = repair_figures.methods_figure(rows)
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    methods = list(dict.fromkeys(row["repair"] for row in rows))
    assert len(figure.axes) == 4
    assert [axis.get_title() for axis in figure.axes] == [*settings, "", ""]
    assert figure.axes[0].get_ylabel() == "clean accuracy %"
    assert figure.axes[2].get_ylabel() == "attack success %"
    for index, axis in enumerate(figure.axes):
        metric, setting = ("clean_accuracy", attack)[index // 2], settings[index % 2]
        own = [row for row in rows if row["setting"] == setting]
        lines = {line.get_label(): line for line in axis.get_lines()}
        shapes = {
            (lines[m.replace("_", " ")].get_marker(), lines[m.replace("_", " ")].get_linestyle()) for m in methods
        }
        assert len(shapes) == len(methods)  # told apart without colour
        assert len(axis.containers) == (len(methods) if replicates > 1 else 0)  # of one replicate there is no error
        for order, method in enumerate(methods):
            place = {row["images"]: row for row in own if row["repair"] == method}
            line = lines[method.replace("_", " ")]
            assert list(line.get_xdata()) == sorted(place)
            assert list(line.get_ydata()) == [100 * place[count][f"{metric}_after"] for count in sorted(place)]
            if replicates > 1:
                _, _, (bars,) = axis.containers[order]
                heights = [abs(segment[1, 1] - segment[0, 1]) / 2 for segment in bars.get_segments()]
                assert heights == pytest.approx([100 * place[count][f"{metric}_after_se"] for count in sorted(place)])
        (level,) = (line for line in axis.get_lines() if line.get_label() == "before")
        assert set(level.get_ydata()) == {100 * own[0][f"{metric}_start"]}
    legend = figure.axes[1].get_legend().get_texts()
    assert [text.get_text() for text in legend] == [*(m.replace("_", " ") for m in methods), "before"]


def test_the_figure_of_methods_without_a_known_attack_has_one_row() -> None:
    names, summaries = jobs()
    known = {"descriptions": described(["clean_accuracy"])}
    kept = ("clean_accuracy", "effect")
    clean = [found | known | {"metrics": {name: found["metrics"][name] for name in kept}} for found in summaries]
    assert len(repair_figures.methods_figure(repairs.rows(names, clean, LEVEL)).axes) == 2


def test_the_figure_of_methods_draws_settings_with_different_attacks() -> None:
    """As of ``mcr repair -m ends=backdoored,injected``."""
    one, other = jobs(1), jobs(1, "injection_success")
    rows = repairs.rows([*one[0], *(f"{name}, injected" for name in other[0])], one[1] + other[1], LEVEL)
    assert len(repair_figures.methods_figure(rows).axes) == 8


def test_many_repairs_are_dots_by_how_well_they_did() -> None:
    rows = [
        {"setting": setting, "repair": f"r_{k}", "images": 100, "replicates": 3, "note": "", "der": 0.5 + 0.04 * k}
        | {"lost": 0.01 * k, "attack_success_after": 0.9 - 0.08 * k - 0.01 * s}
        for s, setting in enumerate(("badnets", "blended"))
        for k in range(9)
    ]
    assert repair_dots.fits(rows)
    assert not repair_dots.fits([{**row, "images": 50 * (index % 2)} for index, row in enumerate(rows[:4])])
    figure = repair_dots.dots_figure(rows, "digits")
    left, lost = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == [f"r {k}" for k in reversed(range(9))]
    assert (left.get_xlabel(), lost.get_xlabel()) == ("attack success left %", "points of accuracy lost")
    (badnets, _, means) = left.collections[:3]
    assert badnets.get_offsets()[:, 0].tolist() == pytest.approx([100 * (0.9 - 0.08 * k) for k in range(9)])
    assert means.get_offsets()[0].tolist() == pytest.approx([100 * (0.9 - 0.08 * 8 - 0.005), 0])
    nobody = [{key: value for key, value in row.items() if "attack" not in key and key != "der"} for row in rows]
    (only,) = repair_dots.dots_figure(nobody).axes
    assert [label.get_text() for label in only.get_yticklabels()] == [f"r {k}" for k in range(9)]

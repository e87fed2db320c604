"""Ends that are not sound: what is said of them, and that no claim about their path is called held."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from mcr.app import run, terminal
from mcr.plans import pipeline
from mcr.reports.claims import Verdict, told
from mcr.reports.soundness import BACKDOOR, ERRORS, Doubt, End, Score, doubts, questioned
from mcr.stages import ends
from mcr.store.stage import Stage
from mcr.training.adversarial import AdversarialModule
from mcr.training.subspace import SubspaceModule
from tests.conftest import TINY

SETTINGS = {"learned": 0.1, "errors": 4, "share": 0.25, "planted": 0.5}


def end(name: str = "start", recipe: str = "r", under_attack: bool = True, images: int = 450, **shares: float) -> End:
    """An end of ten classes; shares by kind."""
    metrics = {
        "clean": "test_accuracy",
        "robust": "robust_accuracy",
        BACKDOOR: "attack_success",
        ERRORS: "injection_success",
    }
    scores = tuple(Score(kind, metrics[kind], share, images) for kind, share in shares.items())
    return End(name, recipe, under_attack, (), 10, scores)


# Robust and clean accuracies of findings/fidelity.md, A: 13 ends of 16 were sound, three were not.
BROKEN = {"replicate 11": (0.487, 0.687), "replicate 15": (0.567, 0.720), "replicate 16": (0.220, 0.393)}


@pytest.mark.parametrize("name", BROKEN)
def test_an_end_whose_training_broke_lies_far_below_its_sister(name: str) -> None:
    robust, clean = BROKEN[name]
    broken, sound = end(clean=clean, robust=robust), end("end", clean=0.96, robust=0.83)
    for pair in ([broken, sound], [sound, broken]):
        (doubt,) = doubts(pair, SETTINGS)
        assert (doubt.end, doubt.about) == ("start", "")
        assert "start lies far below end, which was made by the same recipe: test accuracy" in doubt.reason
        assert f"{100 * clean:.1f} % of 450 images, not 96.0 %" in doubt.reason


@pytest.mark.parametrize(
    "pair",
    [
        (end(clean=0.99, robust=0.89), end("end", clean=0.96, robust=0.83)),  # the spread of sound ends
        (end(clean=0.55, robust=0.321), end("end", clean=0.549, robust=0.32)),  # CIFAR-10 on a small budget
        (end(clean=0.68, robust=0.48), end("end", recipe="another", clean=0.96, robust=0.83)),
        (end(clean=0.5, robust=0.5, images=4), end("end", clean=1.0, robust=1.0, images=4)),  # too few to know
        (end(under_attack=False, clean=0.96), end("end", under_attack=False, clean=0.95)),
    ],
)
def test_sound_ends_raise_no_doubt(pair: tuple[End, End]) -> None:
    assert doubts(pair, SETTINGS) == []


def test_a_regular_network_need_not_withstand_attacks() -> None:
    scores = (Score("clean", "test_accuracy", 0.9, 450), Score("robust", "robust_accuracy", 0.0, 450))
    other = replace(end("end", under_attack=False), scores=(scores[0], replace(scores[1], share=0.15)))
    assert doubts([replace(end(under_attack=False), scores=scores), other], SETTINGS) == []


@pytest.mark.parametrize(
    ("classes", "share", "doubted"),
    [(10, 0.18, True), (10, 0.2, False), (2, 0.54, True), (2, 0.56, False), (100, 0.1, True), (100, 0.12, False)],
)
@pytest.mark.parametrize("kind", ["clean", "robust"])
def test_an_end_near_chance_has_learned_hardly_anything(kind, classes, share, doubted) -> None:
    """Also one that was trained under attack, and withstands none."""
    shares = {"clean": 0.99, "robust": 0.99, kind: share}
    found = doubts([replace(end(**shares), classes=classes)], SETTINGS)
    assert [doubt.end for doubt in found] == ["start"] * doubted
    assert all("start learned hardly anything" in doubt.reason for doubt in found)
    assert doubts([replace(end(**shares), classes=classes)], SETTINGS | {"learned": 0.0}) == []


@pytest.mark.parametrize("kind", [BACKDOOR, ERRORS])
def test_what_was_planted_has_to_have_taken_hold(kind: str) -> None:
    tampered = replace(end(clean=0.9, robust=0.9, **{kind: 0.3}), planted=(kind,))
    (doubt,) = doubts([tampered, end("end", clean=0.9, robust=0.9, **{kind: 0.01})], SETTINGS)
    assert (doubt.end, doubt.about) == ("start", kind)
    assert "did not take hold in start" in doubt.reason
    works = replace(end(clean=0.9, robust=0.9, **{kind: 0.97}), planted=(kind,))
    assert doubts([works, end("end", clean=0.9, robust=0.9, **{kind: 0.01})], SETTINGS) == []
    # Of files nobody knows which one has it.
    given = [end(clean=0.9, robust=0.9, **{kind: share}) for share in (0.01, 0.97)]
    assert doubts(given, SETTINGS) == []
    assert len(doubts(given[:1] * 2, SETTINGS)) == 1


HELD = Verdict("E4, it is gone", "attack_success min <= 0.1", 0.0, held=True)


@pytest.mark.parametrize(
    ("about", "kinds", "statistic", "word"),
    [
        ("", [], "interior", "not tested"),
        ("", [], "end", "not tested"),
        (BACKDOOR, [BACKDOOR], "min", "not tested"),
        (BACKDOOR, ["clean"], "min", "held"),
        (BACKDOOR, [BACKDOOR], "end", "held"),  # that it took hold there is the test of just that
        (ERRORS, [BACKDOOR], "min", "held"),
    ],
)
def test_a_claim_is_not_tested_where_its_ends_are_in_doubt(about, kinds, statistic, word) -> None:
    verdict = questioned(HELD, [Doubt("start", "start is broken", about)], kinds, statistic)
    assert verdict.word == word
    assert verdict.held is (word == "held")
    assert (verdict.untested == "start is broken") is (word == "not tested")


def test_what_was_not_tested_is_told_apart_from_what_held() -> None:
    doubtful = HELD.without_test(["start is broken"])
    found = [("a", HELD), ("b", doubtful), ("c", doubtful), ("d", replace(HELD, held=False, measured=0.5))]
    assert told(found[:3]) == [
        ("held", "it is gone, in all 1 that were tested"),
        ("not tested", "it is gone, 2 of 3: b, c: start is broken"),
    ]
    assert [word for word, _ in told(found[1:])] == ["did not hold", "not tested"]
    assert told([("b", doubtful)]) == [("not tested", "it is gone: b: start is broken")]


# ------------------------------------------------------------------------------------------------ the whole chain

CLAIMS = (
    "{source: 'E15, no barrier', quantity: test_loss.barrier, relation: '<=', value: 100, standard_errors: 0},"
    "{source: 'E16, a barrier', quantity: robust_loss.interior, relation: '>', value: -100, standard_errors: 0},"
    "{source: 'E17, less', against: straight, quantity: test_loss.max, relation: '<', value: 100, standard_errors: 0}"
)
WORDS = (*(word for word in TINY if word != "soundness.learned=0"), f"claims=[{CLAIMS}]", "ends=robust_robust")


def test_ends_are_compared_where_all_but_their_seeds_is_the_same(make, config) -> None:
    def networks(*words: str) -> list[End]:
        cfg = config(*words)
        return [ends.end(stage.label, stage, {}, 10, ()) for stage in pipeline.plan(cfg, run.title(cfg))["train"]]

    first, second = networks("ends=robust_robust")
    assert first.recipe == second.recipe == networks("ends=robust_robust", "replicate=3")[0].recipe
    assert first.robust
    regular, robust = networks("ends=regular_robust")
    assert regular.recipe != robust.recipe == first.recipe
    assert (regular.robust, robust.robust) == (False, True)
    assert networks("ends=robust_robust", "training.epochs=2")[0].recipe != first.recipe
    assert networks("ends=robust_robust", "dataset.images=161")[0].recipe != first.recipe
    one, other = networks("ends=backdoored", "backdoor.size=2", "backdoor.row=-3", "backdoor.column=-3")
    assert one.recipe == other.recipe
    assert one.planted == other.planted == (BACKDOOR,)
    assert regular.planted == ()
    injected = networks("ends=injected", "injection.attacked=1", "injection.kept=1")
    assert [one.planted for one in injected] == [(ERRORS,)] * 2
    assert networks("ends=injected", "injection=gaussian")[0].planted == ()


def test_no_claim_about_a_path_with_a_dead_end_holds(make, capsys) -> None:
    """One epoch at a rate of nothing leaves an end at chance, whose loss every path stays below."""
    made = make(*WORDS, "+endpoints.end.optimizer.lr=1e-9", "endpoints.start.epochs=8", "optimizer.lr=0.1", tiny=False)
    summary = json.loads((made["report"][0] / "summary.json").read_text())
    assert [claim["held"] for claim in summary["claims"]] == [False] * 3
    assert all("end learned hardly anything" in claim["untested"] for claim in summary["claims"])
    assert any("end learned hardly anything" in line and "not tested" in line for line in summary["warnings"])
    assert [doubt["end"] for doubt in summary["doubts"]][-1] == "end"
    text = (made["report"][0] / "report.md").read_text()
    assert text.index("> **Warning:** ") < text.index("## Claims")
    assert text.count("- **not tested**:") == 3
    assert "**held**" not in text
    terminal.print_results([("run", summary)], [("run", Verdict(**claim)) for claim in summary["claims"]], {})
    said = capsys.readouterr().out
    assert said.count("not tested    ") == 3
    assert "held  " not in said


# --------------------------------------------------------------------- early stops, wherever robustness is watched

COLLAPSED = ((0.9, 0.0, 0.0, 0.0), (0.5, 0.6, 0.7, 0.8))


@pytest.mark.parametrize("trained", ["adversarial", "tradeoff", "trades", "fgsm_rs", "a robust path"])
def test_every_training_under_attack_is_watched_and_its_early_end_is_told(trained, make, monkeypatch) -> None:
    """Accuracies are scripted, all else is as it is."""
    module = SubspaceModule if trained == "a robust path" else AdversarialModule

    def scripted(self: Any, part: str) -> None:
        robust, clean = (values[self.current_epoch] for values in COLLAPSED)
        self.log("validation/robust_accuracy", robust)
        self.log("validation/accuracy", clean)

    monkeypatch.setattr(module, "_log", scripted)
    words = ["training.epochs=4", "fit.epochs=4", "attack.steps=1"]
    words += (
        ["objective=adversarial", "fit.keep=best"]
        if trained == "a robust path"
        else [f"endpoint@endpoints.end={trained}"]
    )
    made = make(*words)
    label = "connect path" if trained == "a robust path" else "train end"
    said = json.loads((made[label][0] / "training.json").read_text())["stopped"]
    assert said.startswith("catastrophic overfitting: robust validation accuracy fell from 0.900 to 0.000 in epoch 3")
    summary = json.loads((made["report"][0] / "summary.json").read_text())
    assert summary["stopped"] == [f"{label} ended early: {said}"]
    assert summary["stopped"][0] in summary["warnings"]
    assert f"> **Warning:** {label} ended early: catastrophic" in (made["report"][0] / "report.md").read_text()


def test_a_card_tells_of_trainings_that_ended_early_and_of_a_backdoor_that_is_not_there(make) -> None:
    asked = {"E3": "attack_success.start", "E4, gone": "attack_success.after", "E4, right": "clean_accuracy.lost"}
    usual = "repair: finetune, relation: '<=', value: 1, standard_errors: 0"
    claims = ",".join(f"{{source: '{source}', quantity: {quantity}, {usual}}}" for source, quantity in asked.items())
    words = ["ends=backdoored", "backdoor.size=1", "backdoor.row=-3", "backdoor.column=-3", "poisoning.ratio=0.2"]
    words += ["repair=finetune", "attack=none", f"claims=[{claims}]", "training.epochs=6", "endpoints.end.patience=1"]
    made = make(*words, "+endpoints.end.optimizer.lr=1e-9", "soundness.share=0.99", goal="repair")
    card = json.loads((made["card"][0] / "card.json").read_text())
    (stopped,) = card["stopped"]
    assert stopped.startswith("poison-train end ended early: no better validation accuracy")
    assert stopped in card["warnings"]
    assert {doubt["about"] for doubt in card["doubts"]} == {BACKDOOR}
    summary = json.loads((made["card"][0] / "summary.json").read_text())
    assert [Verdict(**claim).word for claim in summary["claims"]] == ["held", "not tested", "held"]
    text = (made["card"][0] / "card.md").read_text()
    assert "Not tested: the backdoor did not take hold in start: attack success" in text
    assert " not tested |" in text


def test_a_stage_that_is_no_training_raises_no_question() -> None:
    given = Stage("load", 1, {"digest": "x"}, {"data": Stage("data", 1, {})}, "load a")
    assert ends.end("a", given, {}, 10, ()).planted == ()
    assert not ends.end("a", given, {}, 10, ()).robust

"""Laws of the rules that choose a candidate, on random candidates counted in whole images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

from mcr.errors import InputError
from mcr.plans import pipeline
from mcr.reports.cards import intervals
from mcr.selection.farthest import Farthest
from mcr.selection.middle import Middle
from mcr.stages import checks

RULES = {"middle": Middle, "farthest": Farthest}
NEAR = {"from_start": 0.1, "from_end": 0.1}
STEPS = 20  # of the grid of t
HELD_OUT = 100  # images: accuracies are whole numbers over this
every_rule = pytest.mark.parametrize("rule", RULES)
every_seed = pytest.mark.parametrize("seed", range(40))


def row(right: int, best: int, doubt: int = 0) -> dict[str, float]:
    """A candidate's accuracy, beside a better network's that answers ``best`` images right."""
    return {"accuracy": right / HELD_OUT, "lost": best / HELD_OUT - right / HELD_OUT, "lost_se": doubt / HELD_OUT}


@dataclass(frozen=True)
class Case:
    """Random candidates, in whole numbers so that an oracle needs no tolerance; values repeat, so there are ties."""

    right: list[int]  # held-out images answered right
    step: list[int]  # t in steps of the grid
    near: list[tuple[int, int]]  # divergence from start and end, in eighths of a nat
    doubt: list[int]  # standard error of what was lost, in images
    best: int
    margin: int
    errors: int

    @classmethod
    def draw(cls, seed: int) -> Case:
        rng = np.random.default_rng(seed)
        count = int(rng.integers(1, 30))
        right = rng.integers(80, 95, count).tolist()
        best = int(rng.integers(80, 100))
        return cls(
            right,
            rng.integers(1, STEPS, count).tolist(),
            list(zip(rng.integers(0, 6, count).tolist(), rng.integers(0, 6, count).tolist(), strict=True)),
            rng.integers(0, 4, count).tolist(),
            best,
            int(rng.integers(0, 12)),
            int(rng.integers(0, 3)),
        )

    def candidates(self, along: bool = True) -> list[dict[str, float]]:
        return [
            row(right, self.best, doubt)
            | {"from_start": start / 8, "from_end": end / 8}
            | ({"t": t / STEPS} if along else {})
            for right, t, (start, end), doubt in zip(self.right, self.step, self.near, self.doubt, strict=True)
        ]

    def choose(self, rule: str, candidates: list[dict[str, float]] | None = None):
        chosen = self.candidates() if candidates is None else candidates
        return RULES[rule](self.margin / HELD_OUT, float(self.errors)).choose(chosen)

    def allowed(self) -> list[int]:
        """Those whose loss is not shown to be above the margin."""
        pairs = enumerate(zip(self.right, self.doubt, strict=True))
        return [index for index, (right, doubt) in pairs if self.best - right - self.errors * doubt <= self.margin]

    def rank(self, rule: str, index: int) -> tuple[int, int]:
        """What a rule wants, smaller being better."""
        if rule == "middle":
            return abs(2 * self.step[index] - STEPS), -self.right[index]
        return -min(self.near[index]), 0


def test_the_cases_hold_what_the_laws_are_about() -> None:
    """Otherwise the tests below would say nothing: both outcomes, ties, and accuracies exactly at the margin."""
    cases = [Case.draw(seed) for seed in range(40)]
    kept = [bool(case.allowed()) for case in cases]
    assert any(kept)
    assert not all(kept)
    for rule in RULES:
        ranks = [[case.rank(rule, index)[0] for index in case.allowed()] for case in cases]
        assert any(found and found.count(min(found)) > 1 for found in ranks)
    assert sum(case.best - case.margin in case.right for case in cases) > 5
    assert {case.errors for case in cases} == {0, 1, 2}


@every_rule
@every_seed
def test_the_best_of_those_that_keep_the_accuracy_is_chosen(rule: str, seed: int) -> None:
    case = Case.draw(seed)
    choice, numbers = case.choose(rule), case.allowed()
    assert choice.allowed == tuple(index in numbers for index in range(len(case.right)))
    assert choice.kept is bool(numbers)
    if numbers:
        assert choice.index == min(numbers, key=lambda index: (case.rank(rule, index), index))
    else:
        assert choice.index == case.right.index(max(case.right))


@every_rule
def test_an_accuracy_exactly_at_the_margin_is_enough(rule: str) -> None:
    """In floating point some of these means of hits lie above and some below the difference of the other two."""
    above = 0
    for best in range(HELD_OUT + 1):
        for margin in range(best + 1):
            rows = [row(n, best) | NEAR for n in (best - margin, best - margin - 1)]
            above += rows[0]["lost"] > margin / HELD_OUT
            assert RULES[rule](margin / HELD_OUT, 1.0).choose(rows).allowed == (True, False)
    assert above


@every_rule
def test_the_benefit_of_the_doubt_grows_with_the_standard_errors(rule: str) -> None:
    """Ten images are lost, known to two: three of them are forgiven only at four standard errors."""
    for errors, allowed in ((0.0, False), (3.0, False), (3.5, True), (4.0, True)):
        assert RULES[rule](0.03, errors).choose([row(80, 90, 2) | NEAR]).allowed == (allowed,)
    # A loss known exactly is forgiven by none, a gain needs none.
    assert RULES[rule](0.03, 9.0).choose([row(80, 90, 0) | NEAR, row(95, 90, 0) | NEAR]).allowed == (False, True)


@every_rule
@every_seed
def test_the_order_of_the_candidates_does_not_matter(rule: str, seed: int) -> None:
    case = Case.draw(seed)
    order = np.random.default_rng(seed).permutation(len(case.right)).tolist()
    candidates = case.candidates()
    shuffled = case.choose(rule, [candidates[index] for index in order])
    one, other = case.choose(rule).index, order[shuffled.index]
    if case.allowed():
        assert case.rank(rule, one) == case.rank(rule, other)
    else:
        assert case.right[one] == case.right[other]
    assert sum(shuffled.allowed) == len(case.allowed())


@every_rule
@every_seed
def test_a_rule_looks_at_its_own_numbers_alone(rule: str, seed: int) -> None:
    """The middle knows no outputs, the farthest no place, and neither what else stands in a row."""
    case, rng = Case.draw(seed), np.random.default_rng(seed)
    unseen = ("from_start", "from_end") if rule == "middle" else ("t", "rate")
    other = [{**found, **{name: rng.random() for name in (*unseen, "attack_success")}} for found in case.candidates()]
    assert case.choose(rule, other) == case.choose(rule)


@every_seed
def test_candidates_on_no_path_are_told_apart_by_their_accuracy(seed: int) -> None:
    case = Case.draw(seed)
    choice = case.choose("middle", case.candidates(along=False))
    assert choice.index == case.right.index(max(case.right))


def test_on_a_surface_the_middle_is_its_centre() -> None:
    """By the distance that a candidate says; of equally far ones the more accurate."""
    far = [0.5, 0.1, 0.3, 0.1, 0.0]
    rows = [{"u": 0.1, "v": 0.2, "off_centre": off, **row(80 + i, 85)} for i, off in enumerate(far)]
    assert Middle(0.1, 1.0).choose(rows).index == 4
    assert Middle(0.1, 1.0).choose(rows[:4]).index == 3


@pytest.mark.parametrize("pair", [(0.3, 0.7), (0.4, 0.6), (0.1, 0.9), (0.45, 0.55)])
@pytest.mark.parametrize("better", [0, 1])
def test_equally_far_from_the_middle_the_more_accurate_is_taken(pair: tuple[float, float], better: int) -> None:
    """In floating point one of 0.3 and 0.7 is nearer to 0.5; the grid that people see knows no such difference."""
    rows = [{"t": t, **row(80 + (index == better), 82)} for index, t in enumerate(pair)]
    assert Middle(0.05, 1.0).choose(rows).index == better
    assert Middle(0.05, 1.0).choose(rows[::-1]).index == 1 - better


def test_far_from_one_network_alone_is_not_far() -> None:
    rows = [row(90, 90) | {"from_start": a, "from_end": b} for a, b in ((0.6, 0.01), (0.1, 0.1), (0.02, 0.6))]
    assert Farthest(0.03, 1.0).choose(rows).index == 1


@every_rule
@pytest.mark.parametrize(
    ("margin", "errors"), [(-0.01, 1.0), (1.01, 1.0), (3, 1.0), (math.nan, 1.0), (math.inf, 1.0), (0.03, -0.5)]
)
def test_a_margin_that_is_no_share_and_errors_below_zero_are_refused(rule: str, margin: float, errors: float) -> None:
    with pytest.raises(InputError, match="selection"):
        RULES[rule](margin, errors).choose(Case.draw(0).candidates())


@every_rule
@pytest.mark.parametrize(("margin", "expected"), [(0.0, (False, False, True, True)), (1.0, (True,) * 4)])
def test_the_whole_range_of_margins_is_accepted(rule: str, margin: float, expected: tuple[bool, ...]) -> None:
    rows = [row(right, 90) | NEAR for right in (0, 50, 90, 95)]
    assert RULES[rule](margin, 0.0).choose(rows).allowed == expected


@every_rule
def test_without_benefit_of_the_doubt_the_standard_error_is_not_looked_at(rule: str) -> None:
    rows = [{"accuracy": 1.0, "lost": 0.0, "lost_se": math.nan} | NEAR]
    assert RULES[rule](0.03, 0.0).choose(rows).kept


@every_seed
def test_intervals_are_the_longest_runs_of_allowed_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    allowed = (rng.random(int(rng.integers(1, 25))) < rng.random()).tolist()
    rows = [{"t": (index + 1) / 32, "allowed": keeps} for index, keeps in enumerate(allowed)]
    found = intervals(rows)
    for point in rows:
        assert point["allowed"] is (sum(low <= point["t"] <= high for low, high in found) == 1)
    # As few as there are first points of a run: none could be joined with the next.
    assert len(found) == sum(now and not before for before, now in zip([False, *allowed], allowed, strict=False))
    assert found == sorted(found)


def test_candidates_on_no_path_have_no_intervals() -> None:
    assert intervals([{"draw": 0, "allowed": True}, {"draw": 1, "allowed": True}]) == []


def test_a_rule_without_a_margin_is_refused_before_the_work(config) -> None:
    """Cards say the margin: a rule of one's own has to have one."""
    cfg = config("repair=finetune", "ends=regular_regular", "backdoor=none") | {"verb": "repair"}
    (choose,) = (stage for stage in pipeline.ordered(pipeline.plan(cfg)["repair"]) if stage.name == "choose")
    checks.check(choose)
    # Any class that takes no argument stands for such a rule.
    bare = {"_target_": "mcr.repairs.trained.Trained"}
    with pytest.raises(InputError, match="a rule has a margin and standard_errors"):
        checks.check(replace(choose, config={**choose.config, "selection": bare}))

"""Whether the ends of a path are what a claim about it takes them to be. No torch.

A barrier against a broken end says nothing: the broken end is the higher one, and every path stays below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from mcr.reports.claims import Verdict

BACKDOOR, ERRORS = "backdoor", "errors"
# What the metrics of a card are about.
KINDS = {
    "attack_success": (BACKDOOR,),
    "attack_without_trigger": (BACKDOOR,),
    "injection_success": (ERRORS,),
    "restored_accuracy": (ERRORS,),
    "candidates": (BACKDOOR, ERRORS),
}
PLANTED = {BACKDOOR: "the backdoor did not take hold", ERRORS: "the injected errors did not take hold"}


@dataclass(frozen=True)
class Score:
    """A share of images.

    Attributes:
        kind: "clean" or "robust" accuracy, or the success of what was planted: BACKDOOR or ERRORS.
        metric: What tables call it.
        share: In [0, 1].
        images: Of how many.
    """

    kind: str
    metric: str
    share: float
    images: int

    @property
    def variance(self) -> float:
        """Of the share, as if one more image were right and one more wrong: four of four are not known to no error."""
        share = (self.share * self.images + 1) / (self.images + 2)
        return share * (1 - share) / (self.images + 2)


@dataclass(frozen=True)
class End:
    """What is known of a network at an end.

    Attributes:
        name: What people call it.
        recipe: Digest of how it was made and measured, its seeds aside.
        robust: Whether it was trained under attack.
        planted: Of BACKDOOR and ERRORS what was put into it.
        classes: C.
        scores: What was measured of it.
    """

    name: str
    recipe: str
    robust: bool
    planted: tuple[str, ...]
    classes: int
    scores: tuple[Score, ...]

    @classmethod
    def read(cls, described: Mapping[str, Any]) -> End:
        """From its plain values, as a summary has them."""
        scores = tuple(Score(**score) for score in described["scores"])
        return cls(**{**described, "planted": tuple(described["planted"]), "scores": scores})

    @property
    def accuracies(self) -> tuple[Score, ...]:
        """The accuracies that its training aimed at."""
        return tuple(
            score for score in self.scores if score.kind == "clean" or (score.kind == "robust" and self.robust)
        )


@dataclass(frozen=True)
class Doubt:
    """Why claims are not tested.

    Attributes:
        end: The network that is in doubt.
        reason: One sentence without a full stop.
        about: BACKDOOR or ERRORS where only claims about these are in doubt; "" for all.
    """

    end: str
    reason: str
    about: str = ""


def doubts(ends: Sequence[End], settings: Mapping[str, float], others: Sequence[End] = ()) -> list[Doubt]:
    """What is wrong with the ends of one path.

    Args:
        ends: Of the path.
        settings: ``learned``, ``errors``, ``share`` and ``planted`` of the section ``soundness``.
        others: Ends of other paths, which may be made by the same recipe.
    """
    found = []
    for end in ends:
        about = [
            *(doubt for score in end.accuracies for doubt in _learned(end, score, settings["learned"])),
            *(doubt for score in end.accuracies for doubt in _far_below(end, score, [*ends, *others], settings)),
        ]
        found += about[:1]  # one reason is enough
    return [*found, *_planted(ends, settings["planted"])]


def _learned(end: End, score: Score, least: float) -> list[Doubt]:
    chance = 1 / end.classes
    if least and score.share < chance + least * (1 - chance):
        return [Doubt(end.name, f"{end.name} learned hardly anything: {_said(score)}, chance is {_percent(chance)} %")]
    return []


def _far_below(end: End, score: Score, every: Sequence[End], settings: Mapping[str, float]) -> list[Doubt]:
    """A network that lags behind another one of the same recipe: its training broke."""
    sisters = [
        (other, its)
        for other in every
        if other.recipe == end.recipe
        for its in other.accuracies
        if its.metric == score.metric
    ]
    best, its = max(sisters, key=lambda pair: pair[1].share)
    gap, above = its.share - score.share, its.share - 1 / end.classes
    if gap > settings["share"] * above > 0 and gap > settings["errors"] * sqrt(its.variance + score.variance):
        lies = f"{end.name} lies far below {best.name}, which was made by the same recipe"
        return [Doubt(end.name, f"{lies}: {_said(score)}, not {_percent(its.share)} %")]
    return []


def _planted(ends: Sequence[End], least: float) -> list[Doubt]:
    """Of every end into which something was put; where no plan says who has it, of the one that has most."""
    found = []
    for kind, words in PLANTED.items():
        scores = [(end, score) for end in ends for score in end.scores if score.kind == kind]
        known = [(end, score) for end, score in scores if kind in end.planted]
        looked_at = known or sorted(scores, key=lambda pair: -pair[1].share)[:1]
        found += [
            Doubt(end.name, f"{words} in {end.name}: {_said(score)}", kind)
            for end, score in looked_at
            if score.share < least
        ]
    return found


def _said(score: Score) -> str:
    return f"{score.metric.replace('_', ' ')} {_percent(score.share)} % of {score.images} images"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def warnings(found: Sequence[Doubt]) -> list[str]:
    """The doubts, with what follows from each."""
    named = {BACKDOOR: "the backdoor", ERRORS: "the injected errors"}
    return [f"{one.reason}; claims about {named.get(one.about, 'this path')} are not tested" for one in found]


def questioned(verdict: Verdict, found: Sequence[Doubt], about: Sequence[str], statistic: str) -> Verdict:
    """A verdict as it stands where there are doubts: not tested.

    A claim that what was planted took hold in an end is the test of just that, and is judged.

    Args:
        verdict: By the numbers alone.
        found: Doubts about the ends.
        about: Of BACKDOOR and ERRORS what the claim is about.
        statistic: "end" where the claim is about the value of an end.
    """
    reasons = [doubt.reason for doubt in found if not doubt.about or (doubt.about in about and statistic != "end")]
    return verdict.without_test(reasons)

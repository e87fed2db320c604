"""The numbers of several jobs by what was varied: means over replicates, and paired differences. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mcr.evaluation.summary import over_replicates
from mcr.metric import Metric
from mcr.reports.joint import Finished
from mcr.reports.numbers import Number, numbers

REPLICATE = "replicate"
UNSET = "as configured"  # the level of a job whose command line does not name the factor
Levels = tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """A finished job as one observation of the design.

    Attributes:
        name: What tells it from the others.
        levels: Factor to its level.
        replicate: Which of the random repetitions it is.
        values: Its numbers; NaN for one that is not finite.
    """

    name: str
    levels: Mapping[str, str]
    replicate: str
    values: Mapping[Number, float]


@dataclass(frozen=True)
class Cell:
    """A number over the replicates of some levels.

    Attributes:
        levels: Of the factors that it was asked by.
        number: Which.
        spread: Its mean and interval over replicates; see ``over_replicates``.
    """

    levels: Levels
    number: Number
    spread: Mapping[str, float]


def varied(settings: Sequence[Mapping[str, str]]) -> tuple[dict[str, Levels], tuple[Mapping[str, str], ...]]:
    """The factors with their levels, in order of appearance, and the levels of each job.

    Args:
        settings: Of each job what its command line asked: key to value.
    """
    asked = [{key.lstrip("+"): value for key, value in one.items()} for one in settings]
    keys = [key for key in dict.fromkeys(key for one in asked for key in one) if key != REPLICATE]
    levels = {key: tuple(dict.fromkeys(one.get(key, UNSET) for one in asked)) for key in keys}
    factors = {key: found for key, found in levels.items() if len(found) > 1}
    return factors, tuple({factor: one.get(factor, UNSET) for factor in factors} for one in asked)


@dataclass(frozen=True)
class Design:
    """What was varied, and what came out.

    Attributes:
        trials: One for each job that is no repetition of another with the same levels and replicate.
        factors: Factor to its levels, in order of appearance; the replicate is none of them.
        metrics: Cost, or metric of a repair, to what it is.
        repeated: Names of jobs that repeat another and are left out.
        levels: Factor to level of every job, those that repeat another among them.
    """

    trials: tuple[Trial, ...]
    factors: Mapping[str, Levels]
    metrics: Mapping[str, Metric]
    repeated: Levels
    levels: tuple[Mapping[str, str], ...]

    @classmethod
    def of(cls, done: Sequence[Finished], names: Sequence[str]) -> Design:
        """The design of some jobs, from the overrides that differ between them.

        Args:
            done: The jobs.
            names: What tells them apart.
        """
        factors, chosen_of = varied([job.settings for job in done])
        trials: dict[tuple[Levels, str], Trial] = {}
        metrics: dict[str, Metric] = {}
        repeated = []
        for job, name, chosen in zip(done, names, chosen_of, strict=True):
            place = (tuple(chosen.values()), str(job.config[REPLICATE]))
            if place in trials:
                repeated.append(name)
                continue
            described, values = numbers(job.summary)
            metrics |= described
            trials[place] = Trial(name, chosen, place[1], values)
        return cls(tuple(trials.values()), factors, metrics, tuple(repeated), chosen_of)

    @property
    def replicates(self) -> Levels:
        """All replicates, in order of appearance."""
        return tuple(dict.fromkeys(trial.replicate for trial in self.trials))

    @property
    def numbers(self) -> list[Number]:
        """All numbers, in order of appearance."""
        return list(dict.fromkeys(number for trial in self.trials for number in trial.values))

    def means(self, by: Sequence[str], level: float) -> list[Cell]:
        """Each number over replicates, at each combination of levels of some factors that was tried.

        Other factors are averaged over within a replicate first, so that what is counted are replicates; one that lacks
        a combination which another one has there is left out, as its mean would be of something else.

        Args:
            by: The factors.
            level: Of the interval, in (0, 1).
        """
        groups: dict[Levels, list[Trial]] = {}
        for trial in self.trials:
            groups.setdefault(tuple(trial.levels[factor] for factor in by), []).append(trial)
        return [
            Cell(levels, number, spread)
            for levels, members in groups.items()
            for number in self.numbers
            if (spread := over(_whole(members, number), level))
        ]


def over(values: Sequence[float], level: float) -> dict[str, float]:
    """A number over replicates; nothing of no values, and no mean where one of them is not finite."""
    return over_replicates(values, level) if values else {}


def _whole(members: Sequence[Trial], number: Number) -> list[float]:
    """One value a replicate: the mean over its trials, of those replicates that have all combinations."""
    by_replicate: dict[str, list[float]] = {}
    for trial in members:
        if number in trial.values:
            by_replicate.setdefault(trial.replicate, []).append(trial.values[number])
    most = max(map(len, by_replicate.values()), default=0)
    return [float(np.mean(values)) for values in by_replicate.values() if len(values) == most]

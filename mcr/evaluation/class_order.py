"""Whether a network is worse than it should be because its classes are numbered in another order. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import bdtrc

FOLDS = 5
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class ClassOrder:
    """The best order of a network's outputs, and how much better it is than the given one.

    Attributes:
        outputs: Of each class the output that answers its images best (C,), another one for each.
        given: Share of images that are right in the given order.
        found: Share that are right in orders which other images have found (cross-validation over five folds), so
            that a lucky order is not better.
        p_value: Of that difference by chance: McNemar's exact test, one-sided.
        guessed: Share that a network which always answers the most frequent class would have right.
    """

    outputs: Numbers
    given: float
    found: float
    p_value: float
    guessed: float

    @classmethod
    def of(cls, predictions: Numbers, labels: Numbers, classes: int) -> ClassOrder:
        """From predictions (N,) and labels (N,), in random order, of C classes.

        >>> labels = np.arange(60) % 3
        >>> order = ClassOrder.of((labels + 1) % 3, labels, 3)
        >>> order.outputs.tolist(), order.given, order.found, order.p_value < 1e-9
        ([1, 2, 0], 0.0, 1.0, True)
        """
        before = predictions == labels
        after = np.zeros(len(labels), bool)
        fold = np.arange(len(labels)) % FOLDS
        for number in range(FOLDS):
            others, own = fold != number, fold == number
            after[own] = predictions[own] == assigned(predictions[others], labels[others], classes)[labels[own]]
        return cls(
            assigned(predictions, labels, classes),
            float(before.mean()),
            float(after.mean()),
            more_often_right(after, before),
            float(np.bincount(labels).max() / len(labels)),
        )

    def explains(self, level: float, far: float) -> bool:
        """Whether another order is to be told of: significantly and clearly better, and better than always one answer.

        Args:
            level: Of the test.
            far: Least difference of the shares.
        """
        better = self.found >= self.given + far and self.found > self.guessed
        return better and self.p_value < level


def assigned(predictions: Numbers, labels: Numbers, classes: int) -> Numbers:
    """Of each class an output (C,), all different, so that most images are right (Kuhn 1955); ties keep the order."""
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels, predictions), 1)
    # Less than one image in all: it decides between orders that are equally good.
    outputs: Numbers = linear_sum_assignment(counts + np.eye(classes) / (2 * classes), maximize=True)[1]
    return outputs


def more_often_right(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """The p-value of one being right on more of the same images (N,) than the other by chance (McNemar's exact test).

    One-sided: of the images on which only one of them is right, each is a toss of a fair coin.

    >>> more_often_right(np.array([True] * 5), np.array([False] * 5))
    0.03125
    """
    wins, losses = int((first & ~second).sum()), int((second & ~first).sum())
    return float(bdtrc(wins - 1, wins + losses, 0.5)) if wins else 1.0

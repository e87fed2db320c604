"""AutoAttack's parts in their authors' own code (Croce and Hein 2020; package pyautoattack)."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from mcr.attacks import ball
from mcr.attacks.evasion import need, seed_from
from mcr.errors import InputError
from mcr.types import Classifier

NORMS = {"linf": "Linf", "l2": "L2"}
# Its targeted losses compare with the third and the fourth highest logit.
LEAST_CLASSES_TARGETED = 4
MOST_TARGETS = 9  # as in the standard version, which was made for ten classes


def check(name: str, eps: float, norm: str) -> None:
    """Raises InputError for a wrong radius or norm, or where the package is missing."""
    ball.check(name, eps, norm)
    need("pyautoattack", name)


def arguments(attack: Any, images: Tensor, generator: torch.Generator) -> dict[str, Any]:
    """What the constructors of the package share: radius, norm, seed and device."""
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    seed = seed_from(generator)
    return {"eps": attack.eps, "norm": NORMS[attack.norm], "seed": seed, "device": images.device}


def targets(classifier: Classifier, images: Tensor) -> int:
    """How many classes a targeted attack aims at: all wrong ones, at most so many as in the standard version.

    Raises:
        InputError: For fewer classes than its losses compare.
    """
    with torch.no_grad():
        classes = classifier(images[:1]).shape[1]
    if classes < LEAST_CLASSES_TARGETED:
        raise InputError(
            f"apgd_t and autoattack are defined for {LEAST_CLASSES_TARGETED} classes or more, not {classes}"
        )
    return min(MOST_TARGETS, classes - 1)

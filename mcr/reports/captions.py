"""What stands above a figure: the settings that all of it has in common. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

BALL = ("norm", "eps")  # of an attack's settings


def settings(titles: Sequence[str], attacks: Sequence[Mapping[str, Any]], said: str) -> str:
    """Data set and architecture, the attack's ball, and the number of images, as far as they are the same everywhere.

    Args:
        titles: Of the runs, which begin with data set and architecture, before a colon.
        attacks: Norm and radius of each run's attack; empty where nobody attacks.
        said: Of how many images of which split; "" where runs differ.

    >>> settings(["digits, mlp: a to b", "digits, mlp: c to d"], [{"eps": "8/255", "norm": "linf"}] * 2, "test 450")
    'digits, mlp; attack: linf, eps=8/255; images: test 450'
    >>> settings(["digits, mlp: a", "mnist, mlp: a"], [{"eps": 0.1}, {"eps": 0.2}], "")
    ''
    """
    names = {title.partition(": ")[0] for title in titles}
    balls = {
        ", ".join(
            [
                *([str(attack["norm"])] if "norm" in attack else []),
                *([f"eps={_text(attack['eps'])}"] if "eps" in attack else []),
            ]
        )
        for attack in attacks
    }
    parts = [*names] if len(names) == 1 else []
    parts += [f"attack: {ball}" for ball in balls if ball and len(balls) == 1]
    parts += [f"images: {said}"] if said else []
    return "; ".join(parts)


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

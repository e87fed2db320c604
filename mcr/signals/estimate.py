"""The share of the suspects' backdoor that a candidate still holds, as signals estimate it. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan, nan

from mcr.errors import InputError

Signals = Mapping[str, float]
"""Name of each signal to its mean over images."""


def contrast(suspect: Signals, scratch: Signals) -> dict[str, float]:
    """How far each signal of a suspect lies above that of a network which can hold no backdoor.

    A large one is evidence that there is a backdoor; a small one clears nobody.

    Args:
        suspect: Of the network that is to be repaired.
        scratch: Of a network trained from scratch on the same clean images.

    Raises:
        InputError: Where they are not the same signals.
    """
    if suspect.keys() != scratch.keys():
        raise InputError(f"signals of two networks must be the same: {sorted(suspect)} and {sorted(scratch)}")
    return {name: suspect[name] - scratch[name] for name in suspect}


def s_hat(candidate: Signals, scratch: Signals, suspect: Signals, least_contrast: float) -> float:
    """mean over signals s of clip((s(f) - s(scratch)) / (s(suspect) - s(scratch)), 0, 1).

    The suspect reads 1, a network trained from scratch on the same clean images reads 0. A signal whose contrast is not
    above ``least_contrast`` says nothing, because its scale would be noise, and is left out. Where all are, the
    estimate is NaN: neither "nothing left" nor "all left" was found, and whoever chooses by it has to say what then.

    >>> s_hat({"a": 0.4, "b": 9.0}, {"a": 0.2, "b": 0.0}, {"a": 1.0, "b": 0.0}, 0.01)
    0.25

    Args:
        candidate: Its signals.
        scratch: See ``contrast``.
        suspect: Likewise.
        least_contrast: Above 0.

    Raises:
        InputError: Where they are not the same signals; for a ``least_contrast`` that is not above 0.
    """
    if not least_contrast > 0:
        raise InputError(f"least_contrast={least_contrast} of a signal must be above 0")
    scales = contrast(suspect, scratch)
    above = contrast(candidate, scratch)
    shares = [above[name] / scale for name, scale in scales.items() if scale > least_contrast]
    # A network whose outputs are no numbers clears nobody.
    return sum(1.0 if isnan(share) else min(1.0, max(0.0, share)) for share in shares) / len(shares) if shares else nan

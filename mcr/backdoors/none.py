"""No backdoor."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NoBackdoor:
    """No image is poisoned, and the evaluation leaves the attack's success rate out.

    It has neither ``aim`` nor ``stamp``, since neither is ever called: whoever uses a backdoor asks first if it is one.
    """

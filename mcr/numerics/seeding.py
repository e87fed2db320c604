"""Seeds named by their use: no generator is shared between two purposes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seed_for(seed: int | str, *role: object) -> int:
    """A seed below 2**63 for one use, from the run's seed and the names of the use.

    Derived seeds (instead of one running generator) make a resumed or re-ordered run draw the same numbers.

    >>> seed_for(0, "order", 3) == seed_for(0, "order", 3) != seed_for(0, "order", 4)
    True
    """
    text = "/".join(map(str, (seed, *role)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int | str, *role: object) -> torch.Generator:
    """A CPU generator for one use; draws on the CPU are the same for every device."""
    import torch

    return torch.Generator().manual_seed(seed_for(seed, *role))

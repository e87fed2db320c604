"""How far an axis goes. No torch."""

from __future__ import annotations

MARGIN = 0.06  # of the range of the values, beyond them


def limits(low: float, high: float) -> tuple[float, float]:
    """An axis whose edges no value touches: from zero, unless all values lie so far above it that they look alike.

    >>> limits(0.5, 4.0), limits(2.0, 2.5)
    ((0.0, 4.21), (1.97, 2.53))
    """
    margin = MARGIN * ((high - low) or abs(high) or 1.0)
    return (0.0 if 0 <= low <= high / 2 else low - margin), high + margin

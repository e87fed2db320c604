"""No injection."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NoInjection:
    """Leaves the network as it is; nothing calls it, the injected end and its metrics are left out."""

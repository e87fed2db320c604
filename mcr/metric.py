"""What a measured number is: the one description that tables, figures, claims and loggers read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal

Unit = Literal["nats", "share", "1"]
Better = Literal["lower", "higher", "neither"]


@dataclass(frozen=True)
class Metric:
    """One metric of a probe.

    Attributes:
        name: What a column is called; a probe's name stands before it ("robust" and "loss": ``robust_loss``).
        unit: "nats" for losses, "share" for what lies in [0, 1] and is read in percent, "1" for anything else.
        better: Whether lower or higher values are better.
        label: What an axis of a figure says; metrics of one label share a panel. Empty: in tables only.
        probe: What the probe is called that it was measured with; empty where it is described, not yet measured.
    """

    name: str
    unit: Unit
    better: Better
    label: str
    probe: str = ""

    def of(self, probe: str) -> Metric:
        """The same metric under the name that it has in tables."""
        return replace(self, name=f"{probe}_{self.name}", probe=probe)

    @property
    def cost(self) -> str:
        """The name of the same quantity as one that is worse when higher: an accuracy's is an error.

        >>> Metric("test_accuracy", "share", "higher", "accuracy").cost
        'test_error'
        """
        if self.better != "higher":
            return self.name
        return self.name.replace("accuracy", "error") if "accuracy" in self.name else f"lack_of_{self.name}"

    @property
    def scale(self) -> int:
        """What a value is multiplied by for reading: shares are read in percent."""
        return 100 if self.unit == "share" else 1

    @property
    def digits(self) -> int:
        """Decimals that people read."""
        return 1 if self.unit == "share" else 3

    def text(self, value: float | None, sign: str = "") -> str:
        """A value, or a difference of values, as people read it; what is not finite is said in words.

        >>> Metric("test_accuracy", "share", "higher", "").text(0.5), Metric("loss", "nats", "lower", "").text(0.5, "+")
        ('50.0', '+0.500')
        """
        if value is None or not isfinite(value):
            return "not finite"
        return f"{self.scale * value:{sign}.{self.digits}f}"

    def error(self, value: float | None) -> str:
        """A standard error as it stands behind a value; nothing where it is not known.

        >>> Metric("loss", "nats", "lower", "").error(0.25), Metric("loss", "nats", "lower", "").error(float("nan"))
        (' ± 0.250', '')
        """
        return f" ± {self.text(value)}" if value is not None and isfinite(value) else ""

    def title(self, name: str = "") -> str:
        """The name, or that of the cost, as words."""
        words = (name or self.name).replace("_", " ")
        return f"{words} %" if self.unit == "share" else words

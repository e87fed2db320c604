"""What the signals say of a network, between a suspect and one that cannot hold what the suspects hide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from torch import nn

from mcr.datasets.batches import EvaluationBatches
from mcr.numerics.seeding import generator
from mcr.selection.choice import ESTIMATE
from mcr.signals.estimate import contrast, s_hat
from mcr.signals.signal import Question, Signal


@dataclass(frozen=True)
class Suspicion:
    """Signals that were fitted to the suspects, and what they say of the first of these and of the reference.

    Attributes:
        questions: Name to what a candidate is asked.
        suspect: Name to the signal of the network that is repaired: an estimate of 1.
        reference: Name to that of a network trained from scratch on the clean images: an estimate of 0.
        least_contrast: Between both: a signal that tells them apart by less says nothing.
    """

    questions: Mapping[str, Question]
    suspect: Mapping[str, float]
    reference: Mapping[str, float]
    least_contrast: float

    @classmethod
    def of(
        cls,
        signals: Mapping[str, Signal],
        suspects: Sequence[nn.Module],
        reference: nn.Module,
        images: EvaluationBatches,
        least_contrast: float,
        seed: str,
    ) -> Suspicion:
        """Fit the signals to the suspects, the one to be repaired first, and ask it and the reference."""
        questions = {
            name: signal.against(suspects, images, generator(seed, "signal", name)) for name, signal in signals.items()
        }
        first, other = (
            {name: float(question(network).mean()) for name, question in questions.items()}
            for network in (suspects[0], reference)
        )
        return cls(questions, first, other, least_contrast)

    @property
    def described(self) -> dict[str, dict[str, float | bool]]:
        """Name to what each signal says of the suspect and the reference, and whether it tells them apart."""
        return {
            name: {
                "suspect": self.suspect[name],
                "reference": self.reference[name],
                "contrast": between,
                "tells": between > self.least_contrast,
            }
            for name, between in contrast(self.suspect, self.reference).items()
        }

    def score(self, network: nn.Module) -> dict[str, float]:
        """The estimated share of the attack's success that is left in a candidate, and each signal."""
        found = {name: float(question(network).mean()) for name, question in self.questions.items()}
        left = s_hat(found, self.reference, self.suspect, self.least_contrast)
        # Where no signal tells the suspect from the reference, nothing hidden was seen that could be left.
        return {ESTIMATE: 0.0 if isnan(left) else left, **{f"signal_{name}": value for name, value in found.items()}}

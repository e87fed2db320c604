"""How much of what the suspects hide is left in a network, as signals say: 0 is a network that can hide nothing."""

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
        of_suspect: Name to the signal of the network that is repaired: an estimate of 1.
        of_reference: Name to that of a network trained from scratch on the clean images: an estimate of 0.
        least_contrast: A signal tells the two apart where it is higher for the suspect by more than this; any other is
            left out of the estimate. In the signals' own units.
    """

    questions: Mapping[str, Question]
    of_suspect: Mapping[str, float]
    of_reference: Mapping[str, float]
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
        """Fit the signals to the suspects, and ask the first of them and the reference.

        Args:
            signals: Name to signal.
            suspects: Separate modules in evaluation mode, the one to be repaired first.
            reference: Trained from scratch on the same images, likewise.
            images: The clean images.
            least_contrast: See the class.
            seed: Of the signals' fits.

        Raises:
            InputError: Where the images can tell a signal nothing.
        """
        questions = {
            name: signal.against(suspects, images, generator(seed, "signal", name)) for name, signal in signals.items()
        }
        return cls(questions, _asked(questions, suspects[0]), _asked(questions, reference), least_contrast)

    @property
    def described(self) -> dict[str, dict[str, float | bool]]:
        """Name to what each signal says of the suspect and the reference, and whether it tells them apart."""
        return {
            name: {
                "suspect": self.of_suspect[name],
                "reference": self.of_reference[name],
                "contrast": between,
                "tells": between > self.least_contrast,
            }
            for name, between in contrast(self.of_suspect, self.of_reference).items()
        }

    def score(self, network: nn.Module) -> dict[str, float]:
        """``estimated_success``, the share of the attack's success that is left, and ``signal_NAME`` of each signal.

        Where no signal tells the suspect from the reference nothing hidden was seen that could be left: the estimate is
        0, so that accuracy alone decides, and ``described`` says that nothing was told.

        Args:
            network: In evaluation mode, with its BatchNorm statistics.
        """
        found = _asked(self.questions, network)
        left = s_hat(found, scratch=self.of_reference, suspect=self.of_suspect, least_contrast=self.least_contrast)
        return {ESTIMATE: 0.0 if isnan(left) else left, **{f"signal_{name}": value for name, value in found.items()}}


def _asked(questions: Mapping[str, Question], network: nn.Module) -> dict[str, float]:
    """Name to each signal of a network in evaluation mode: its mean over the images that count."""
    return {name: float(question(network).mean()) for name, question in questions.items()}

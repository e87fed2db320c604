"""What held-out clean images say of the candidates of a repair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from mcr.datasets.batches import EvaluationBatches
from mcr.numerics.statistics import standard_error
from mcr.probes.divergence import jensen_shannon, log_probabilities
from mcr.repairs.bench import Bench
from mcr.weightspace.states import load_state


@dataclass(frozen=True)
class HeldOutScore:
    """What held-out clean images say of a candidate.

    Attributes:
        batches: The held-out images.
        outputs: Name of each end to its log-probabilities (N, C) there.
        ends: Their accuracies.
    """

    batches: EvaluationBatches
    outputs: Mapping[str, Tensor]
    ends: Mapping[str, float]

    @classmethod
    def of(cls, bench: Bench, batches: EvaluationBatches) -> HeldOutScore:
        """Ask the ends first, each with its own BatchNorm statistics."""
        outputs = {}
        for name, state in bench.ends.items():
            load_state(bench.network, state)
            outputs[name] = log_probabilities(bench.network, batches)
        right = {
            name: float((found.argmax(1) == batches.labels.cpu()).double().mean()) for name, found in outputs.items()
        }
        return cls(batches, outputs, right)

    def score(self, network: nn.Module) -> dict[str, float]:
        """Accuracy, its loss against the best end with standard error, and the divergence from each end."""
        found = log_probabilities(network, self.batches)
        better = self.outputs[max(self.ends, key=lambda name: self.ends[name])]
        right, before = ((part.argmax(1) == self.batches.labels.cpu()).double() for part in (found, better))
        lost = before - right
        return {
            "accuracy": float(right.mean()),
            "lost": float(lost.mean()),
            "lost_se": standard_error(lost.numpy()),
            **{f"from_{name}": float(jensen_shannon(own, found).mean()) for name, own in self.outputs.items()},
        }

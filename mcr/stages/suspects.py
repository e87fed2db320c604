"""The given networks as suspects: what signals are fitted to and tried on."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mcr.datasets.batches import EvaluationBatches
from mcr.repairs.bench import Bench
from mcr.repairs.suspicion import Suspicion
from mcr.repairs.transfer import transfer
from mcr.signals.signal import Signal
from mcr.stages.artifacts import read_material, read_network
from mcr.stages.context import Context
from mcr.store.build import build
from mcr.weightspace.states import load_state

REFERENCE = "reference"  # the role of the network that was trained on the clean images from scratch


@dataclass(frozen=True)
class Suspects:
    """Given networks, signals, and what these need.

    Attributes:
        signals: Name to signal.
        networks: Name to each of the given networks, a module of its own.
        reference: Trained from scratch on the clean images.
        clean: The clean images, held-out ones first.
    """

    signals: dict[str, Signal]
    networks: dict[str, nn.Module]
    reference: nn.Module
    clean: EvaluationBatches

    @classmethod
    def of(cls, config: Mapping[str, Any], inputs: dict[str, Path], bench: Bench, context: Context) -> Suspects | None:
        """Of a ``choose`` stage; None without any signal."""
        part = config["suspicion"]
        if not part["signals"]:
            return None
        fitted, held = read_material(inputs, config["material"], context.device_name)
        images, labels = torch.cat([held.images, fitted.images]), torch.cat([held.labels, fitted.labels])
        few = slice(part["images"])
        return cls(
            {name: build(signal) for name, signal in part["signals"].items()},
            {name: _copied(bench.network, state) for name, state in bench.ends.items()},
            _copied(bench.network, read_network(inputs[REFERENCE])),
            EvaluationBatches(images[few], labels[few], config["batch_size"], config["memory_format"]),
        )

    def suspicion(self, config: Mapping[str, Any]) -> Suspicion:
        """What all signals say, fitted to all networks."""
        least = config["suspicion"]["least_contrast"]
        networks = list(self.networks.values())
        return Suspicion.of(self.signals, networks, self.reference, self.clean, least, config["seed"])

    def transfer(self, names: Sequence[str], seed: str) -> dict[str, dict[str, dict[str, float]]]:
        """What these signals say, fitted to each network alone."""
        signals = {name: self.signals[name] for name in names}
        return transfer(signals, self.networks, self.reference, self.clean, seed)


def _copied(network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    found = copy.deepcopy(network)
    load_state(found, state)
    return found.eval()

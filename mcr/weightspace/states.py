"""State dicts that go into a network and come out of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn

from mcr.errors import InputError


def load_state(network: nn.Module, state: Mapping[str, Tensor], strict: bool = True) -> None:
    """``load_state_dict`` of named tensors, which are of the versions of the network's own modules.

    Some modules load by their version, which ``state_dict`` keeps beside the tensors and which neither a plain mapping
    nor safetensors has; torchvision's MNASNet refuses a state without.
    """
    versioned = OrderedDict(state)
    versioned._metadata = getattr(network.state_dict(), "_metadata", {})  # type: ignore[attr-defined]
    network.load_state_dict(versioned, strict=strict)


def check_tensors(network: nn.Module, name: str) -> None:
    """Raises InputError for state that is no tensor (``get_extra_state``): files of weights hold tensors alone."""
    for key, value in network.state_dict().items():
        if not isinstance(value, Tensor):
            raise InputError(
                f"{name} has state that is no tensor: {key} is a {type(value).__name__}; "
                "its get_extra_state() must give a tensor, or not be there"
            )

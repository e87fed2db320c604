"""A network from a file that nobody vouches for."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from torch import nn

from mcr.library.options import composed, word
from mcr.weightspace import files

Network = TypeVar("Network", bound=nn.Module)


def load(path: str | Path, network: Network) -> Network:
    """Put a file's weights into a network; no code of the file is run.

    Args:
        path: safetensors, or a PyTorch file of a state dict, bare or nested under one of the usual keys.
        network: Of the architecture that was saved.

    Returns:
        The same network.

    Raises:
        InputError: In one line, for a file that is too large, damaged or needs code to load, or weights that do not
            fit the network.
    """
    path = Path(path)
    options = composed("endpoint@endpoints.start=checkpoint", word("endpoints.start.path", str(path)))
    state = files.load_foreign(path, options["endpoints"]["start"]["most_megabytes"])
    files.fit_into(network, state, path)
    return network

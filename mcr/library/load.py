"""A network from a file that nobody vouches for."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TypeVar

from torch import nn

from mcr.foreign.fit import take
from mcr.foreign.part import AUTO
from mcr.library.options import composed, word

Network = TypeVar("Network", bound=nn.Module)
log = logging.getLogger("mcr")


def load(path: str | Path, network: Network, key: str = AUTO) -> Network:
    """Put a file's weights into a network; no code of the file is run.

    What else the file holds is told to the log "mcr".

    Args:
        path: safetensors, or a PyTorch file of a state dict, bare or nested under any key; or an index of such files.
        network: Of the architecture that was saved.
        key: Which part of the file, where several fit: keys and beginnings of names, joined by dots.

    Returns:
        The same network.

    Raises:
        InputError: In one line, for a file that is too large, damaged or code, or weights that do not fit the network.
    """
    options = composed("endpoint@endpoints.start=checkpoint", word("endpoints.start.path", str(path)))
    taken = take(Path(path), network, options["endpoints"]["start"]["most_megabytes"], key)
    for line in taken.told:
        log.info("%s: %s", path, line)
    return network

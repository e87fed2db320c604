"""How processes begin."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def safe_start() -> Iterator[None]:
    """Processes that begin in here find Python's own modules where Python has them, not in the working folder.

    There a file may be called like one; a spawned process would look into that folder first, until it is told this
    one's path, which has the folder last.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before

"""``python -m mcr``: the same as the console script ``mcr``."""

import sys
from pathlib import Path

import mcr

if __name__ == "__main__":
    # Python puts the working folder first. What lies there is not to take the place of an installed package: only mcr
    # itself, where it is run from its checkout, is still found there, after all others.
    if not sys.flags.safe_path and sys.path and sys.path[0] == str(Path.cwd()):
        folder = sys.path.pop(0)
        if Path(mcr.__file__).resolve().parent.parent == Path(folder).resolve():
            sys.path.append(folder)
    from mcr.app.cli import main

    main()

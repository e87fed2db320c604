"""``python -m mcr``: the same as the console script ``mcr``."""

from mcr.app.cli import main

if __name__ == "__main__":
    main()

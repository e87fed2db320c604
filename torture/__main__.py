"""All campaigns, or those that are named: ``python -m torture kills --minutes 5 --seed 3``.

Each takes its share of the minutes, prints counts and faults; the exit status is 1 where there was a fault.
"""

from __future__ import annotations

import argparse
import importlib
import sys

NAMES = ("kills", "sweeps", "store_faults", "hostile_files", "configuration")
MINUTES = 14.0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.add_argument("campaigns", nargs="*", choices=[*NAMES, []], default=[], metavar="|".join(NAMES))
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all of them together")
    parser.add_argument("--seed", type=int, default=0, help="of what is tried: another one tries other things")
    given = parser.parse_args(arguments)
    chosen = given.campaigns or NAMES
    faults = 0
    for name in chosen:
        tally = importlib.import_module(f"torture.{name}").campaign(60 * given.minutes / len(chosen), given.seed)
        print(tally, flush=True)
        faults += len(tally.faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What short words of the command line stand for: files after ``repair``, the import path of a user's network."""

from __future__ import annotations

from pathlib import Path

from mcr.errors import InputError

ONE_MODEL = "permuted_copy"  # how the second network is made where a user has one


def imported_architecture(overrides: list[str]) -> list[str]:
    """``architecture._target_=...`` alone means the user's own network, free of another option's arguments."""
    keys = {override.split("=", 1)[0] for override in overrides}
    if "architecture._target_" in keys and "architecture" not in keys:
        return ["architecture=imported", *overrides]
    return overrides


def checkpoints(files: list[str]) -> list[str]:
    """The overrides for which files on the command line of ``repair`` stand: one network, or two.

    From a single network the second is made. Raises InputError for more than two, or one that is not there.
    """
    if len(files) > 2:
        raise InputError(f"repair takes one or two networks, not {len(files)}: {' '.join(files)}")
    words = []
    for role, file in zip(("start", "end"), files, strict=False):
        if Path(file).is_dir():
            raise InputError(f"{file} is a folder: name the file of weights in it")
        if not Path(file).is_file():
            raise InputError(f"there is no file {file}")
        words += [f"endpoint@endpoints.{role}=checkpoint", f"endpoints.{role}.path={quoted(file)}"]
    return [*words, f"endpoint@endpoints.end={ONE_MODEL}"] if len(files) == 1 else words


def quoted(text: str) -> str:
    """Text as a value in Hydra's grammar, whatever characters it has."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

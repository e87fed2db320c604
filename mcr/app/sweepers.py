"""The jobs of a sweep, as far as they are known before it: all of them, or some that a search may make."""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig, OmegaConf

from mcr.errors import InputError


def searches(hydra: DictConfig) -> bool:
    """Whether the sweeper of Hydra's part is one that chooses its next jobs by what the last ones found."""
    return not str(hydra.sweeper["_target_"]).endswith(f".{BasicSweeper.__name__}")


def params(hydra: DictConfig) -> list[str]:
    """The overrides that an experiment sweeps over.

    Raises:
        InputError: For one that refers to another setting: Hydra reads that once, before there are jobs.
    """
    found = hydra.sweeper.get("params") or {}
    for key in found:
        if OmegaConf.is_interpolation(found, key):
            raise InputError(
                f"hydra.sweeper.params.{key} refers to another setting, and would have that one's value before the "
                f"sweep in every job: name its values, or refer to the other where {key} is set"
            )
    return [f"{key}={value}" for key, value in found.items()]


def lines(overrides: Sequence[Override]) -> list[list[str]]:
    """Every job of the basic sweeper: its line of overrides."""
    found: list[list[str]] = BasicSweeper.split_arguments(list(overrides), None)[0]
    return found


def samples(overrides: Sequence[Override]) -> list[list[str]]:
    """Some jobs that a search may make.

    They have every value of every list, and both ends of every range and interval, though not each with each.

    Args:
        overrides: Of the sweeper and of the command, which take the place of the sweeper's.
    """
    values = list({override.get_key_element(): each(override) for override in overrides}.values())
    count = max(map(len, values), default=1)
    return [[of_key[index % len(of_key)] for of_key in values] for index in range(count)]


def each(override: Override) -> list[str]:
    """The override with each of its values; of an interval, or a range that is not shuffled, with both ends."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    value = override.value()
    if isinstance(value, IntervalSweep):
        found = [str(value.start), str(value.end)]
    elif isinstance(value, RangeSweep) and not value.shuffle:
        found = [str(value.start), str(value.stop)]
    else:
        found = list(override.sweep_string_iterator())
    return [f"{override.get_key_element()}={one}" for one in found]

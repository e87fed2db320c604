"""Types and ranges that the recipes of several stages share, and what is said where a value has another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from mcr.errors import InputError

Whole = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=1)] | Literal["all"]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Counted = Annotated[int, Field(ge=0)] | Literal["all"]  # of images, 0 asks nothing


def _divides(size: float) -> float:
    if size > 1 and not float(size).is_integer():
        raise PydanticCustomError("share", "a whole number, a share below 1")
    return size


Portion = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_divides)] | Literal["all"]
Name = Annotated[str, Field(min_length=1)]
Precision = Literal["fp32", "tf32", "bf16"]
AttackPrecision = Literal["fp32", "bf16"]
Format = Literal["channels_last", "contiguous"]
Part = dict[str, Any]  # a choice of a group, checked against the constructor that it names

MOST = 80  # characters of a value in a message


class Declared(BaseModel):
    """What a stage reads of its configuration."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Model(Declared):
    architecture: Part
    normalization: Part


class Material(Declared):
    split: Literal["train", "clean", "test"]
    images: Count
    held_out: Share


class Trusted(Material):
    shown: Literal["apart", "added"]


class Watch(Declared):
    collapse: Share
    learned: Share
    epochs: Whole
    clean_tolerance: Share


class Optimizer(Declared):
    """What optimizers have in common; the other arguments are checked against the constructor."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    partial: Literal[True] = Field(default=True, alias="_partial_")
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    momentum: Share = 0.0
    weight_decay: Size = 0.0


class Training(Declared):
    epochs: Whole | None = None
    steps: Whole | None = None
    stop: Whole | None = None
    steps_per_epoch: Whole
    batch_size: Whole
    precision: Precision
    memory_format: Format
    keep: Literal["last", "best"]
    patience: Annotated[int, Field(ge=0)]
    processes: Whole
    compile: str
    watch: Watch
    objective: Part
    optimizer: Optimizer
    schedule: Part


class NetworkTraining(Training):
    module: Part
    min_accuracy_over_chance: Size


class SubspaceTraining(Training):
    weight_decay: Size
    ema_decay: Share
    watched_images: Whole
    sampling: Part
    places: Whole


class Augmented(Declared):
    padding: Annotated[int, Field(ge=0, le=256)]
    flip: Annotated[float, Field(ge=0, le=1)]


class BatchNorm(Declared):
    images: Count
    batch_size: Whole
    precision: Precision
    seed: int | str


# What pydantic finds, in the words of this program.
SAID = {
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "above {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "below {lt:g}",
    "literal_error": "{expected}",
    "finite_number": "finite",
    "too_short": "not empty",
    "string_too_short": "not empty",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "list_type": "a list",
}
# What people set where a recipe names it otherwise.
KEYS = {
    "batchnorm.images": "evaluation.batchnorm_images",
    "batchnorm.batch_size": "evaluation.batchnorm_batch",
    "batchnorm.precision": "evaluation.precision",
    "material.held_out": "repair.budget.held_out",
    "images": "probes.{name}.images",
}


def validate(declared: type[Declared], label: str, config: Mapping[str, Any]) -> None:
    """Raises InputError for a key that is not declared, is missing, or whose value has a wrong type or range.

    Args:
        declared: The keys, their types and ranges.
        label: Of whom, for the message; empty where the keys say it themselves.
        config: Has the values.
    """
    of = f"{label}: " if label else ""
    try:
        declared.model_validate(dict(config))
    except ValidationError as error:
        found = [(_key(one["loc"], config), one) for one in error.errors()]
        where, first = found[0]
        if first["type"] == "extra_forbidden":
            raise InputError(f"{of}nothing reads {where}") from None
        if first["type"] == "missing":
            raise InputError(f"{of}{where} is missing") from None
        # One for each type that the value may have.
        said = dict.fromkeys(_said(one) for key, one in found if key == where)
        raise InputError(f"{of}{where}={str(first['input'])[:MOST]} must be {' or '.join(said)}") from None


def _key(place: tuple[int | str, ...], config: Mapping[str, Any]) -> str:
    """What people call a place of a recipe."""
    key = ".".join(str(part) for part in place if not _is_alternative(part)).removeprefix("recipe.")
    return KEYS[key].format(**config) if key in KEYS else key


def _said(error: ErrorDetails) -> str:
    return SAID.get(error["type"], error["msg"]).format(**error.get("ctx", {})).replace("'", "")


def _is_alternative(part: int | str) -> bool:
    """Whether a part of a place is the name of one of several types, as pydantic puts it."""
    return isinstance(part, str) and ("[" in part or part.startswith("constrained-") or part in ("int", "float", "str"))

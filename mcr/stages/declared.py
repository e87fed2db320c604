"""Types and ranges that the recipes of several stages share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Whole = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=1)] | Literal["all"]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Precision = Literal["fp32", "bf16"]
Format = Literal["channels_last", "contiguous"]
Part = dict[str, Any]  # a choice of a group, checked against the constructor that it names


class Declared(BaseModel):
    """What a stage reads of its configuration."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Model(Declared):
    architecture: Part
    normalization: Part


class Material(Declared):
    split: Literal["train", "clean"]
    images: Count
    held_out: Share


class Watch(Declared):
    collapse: Share
    learned: Share
    epochs: Whole
    clean_tolerance: Share


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
    optimizer: Part
    schedule: Part


class NetworkTraining(Training):
    module: Part
    floor: Size


class SubspaceTraining(Training):
    weight_decay: Size
    ema_decay: Share
    watched_images: Whole


class Augmented(Declared):
    padding: Annotated[int, Field(ge=0, le=256)]
    flip: Annotated[float, Field(ge=0, le=1)]


class BatchNorm(Declared):
    images: Count
    batch_size: Whole
    precision: Precision
    seed: int | str

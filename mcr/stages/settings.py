"""The plain settings of a run, declared: what no stage of this run reads is checked all the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from mcr.stages.declared import (
    AttackPrecision,
    Augmented,
    Count,
    Counted,
    Declared,
    Format,
    Name,
    Optimizer,
    Part,
    Precision,
    Share,
    Size,
    Watch,
    Whole,
    validate,
)
from mcr.stages.recipes import CardSettings, Figures, Poisoning, Soundness, Split, Statistics

ABSENT: Any = Field(default=None)  # of an option that has no such key; null is no value of it
Patience = Annotated[int, Field(ge=0)]


class Open(Declared):
    """Has keys of its own beside those that are declared: a constructor's arguments, a user's group."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


class Runtime(Declared):
    accelerator: Literal["cpu", "gpu", "cuda", "mps", "auto"]
    devices: Whole | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    strategy: Literal["auto", "ddp_spawn", "ddp_spawn_find_unused_parameters_true"]
    threads: Annotated[int, Field(ge=0, le=4096)]
    compile: Literal["none", "inductor", "cudagraphs"]


class Logger(Open):
    kind: Literal["wandb", "csv", "lightning", "none"]
    mode: Literal["offline", "online", "disabled"] = ABSENT
    project: Name = ABSENT
    entity: Name | None = None
    dir: Name | None = None
    artifacts: list[Literal["ends", "path"]] = ABSENT


class Training(Open):
    epochs: Whole
    batch_size: Whole
    precision: Precision
    memory_format: Format
    min_accuracy_over_chance: Size
    steps_per_epoch: Whole


class Fit(Open):
    epochs: Annotated[int, Field(ge=0)]
    steps: Annotated[int, Field(ge=0)]
    batch_size: Whole
    images: Count
    weight_decay: Size
    ema_decay: Share
    keep: Literal["last", "best"]
    patience: Patience
    watched_images: Whole


class Poisoned(Poisoning):
    sets: Literal["shared", "own"]


class Budget(Open):
    images: Count
    held_out: Share
    taken: Literal["chosen", "refitted"]
    steps: Whole
    batch_size: Whole
    keep: Literal["last", "best"]
    patience: Patience
    precision: Precision
    memory_format: Format


class Repair(Open):
    name: Name
    budget: Budget
    weight_decay: Size = ABSENT
    ema_decay: Share = ABSENT


class Selection(Open):
    margin: Size = ABSENT
    standard_errors: Size = ABSENT


class Evaluation(Open):
    batch_size: Whole
    train_images: Counted
    test_images: Counted
    robust_images: Counted
    hessian_images: Counted
    group_images: Counted
    batchnorm_images: Count
    batchnorm_batch: Whole
    precision: Precision
    attack_precision: AttackPrecision
    memory_format: Format


class Probe(Open):
    images: Counted
    precision: Precision = ABSENT


class Dataset(Open):
    split: Split
    augmentation: Augmented


class Labelled(Open):
    label: Name


class Reports(Figures):
    rows: list[str]
    columns: list[str]


class Settings(Open):
    training: Training
    watch: Watch
    fit: Fit
    optimizer: Optimizer
    poisoning: Poisoned
    repair: Repair
    selection: Selection
    card: CardSettings
    statistics: Statistics
    soundness: Soundness
    evaluation: Evaluation
    probes: dict[str, Probe]
    dataset: Dataset
    endpoints: dict[str, Labelled]
    references: dict[str, Labelled] = Field(default_factory=dict)
    report: Reports
    runtime: Runtime
    logger: Logger
    claims: list[Part]
    optimized_metric: Name | None


def check(cfg: Mapping[str, Any]) -> None:
    """Raises InputError for the first setting of a configuration whose value has a wrong type or range."""
    validate(Settings, "", cfg)

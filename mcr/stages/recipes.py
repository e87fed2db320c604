"""The recipe of every stage, declared: each key has a type and a range, and a key that nothing reads is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from mcr.stages.declared import (
    Augmented,
    BatchNorm,
    Count,
    Declared,
    Format,
    Material,
    Model,
    NetworkTraining,
    Part,
    Portion,
    Share,
    Size,
    SubspaceTraining,
    Trusted,
    Whole,
    validate,
)

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Data(Declared):
    dataset: Part


class Split(Declared):
    seed: int | str
    train: Portion
    validation: Portion | Literal["given"]
    clean: Portion
    test: Portion | Literal["given"]


class Poisoning(Declared):
    ratio: Fraction
    sources: list[int] | Literal["all"]
    labels: Literal["dirty", "clean"]
    cover: Fraction
    pieces: Annotated[int, Field(ge=1, le=16)]
    stamp: Literal["before", "after"]


class Poison(Declared):
    backdoor: Part
    poisoning: Poisoning
    seed: str


class Train(Model):
    augmentation: Augmented
    material: Material
    trusted: Trusted | None = None
    recipe: NetworkTraining
    seed: str


class Load(Model):
    digest: str
    most_megabytes: Size
    key: str


class Edit(Model):
    edit: Part
    data: Literal["nothing", "train", "validation", "clean", "test"]
    seed: str


class Draw(Model):
    seed: str


class Extract(Declared):
    end: Annotated[int, Field(ge=0)]


class Connect(Model):
    curve: Part
    transform: Part
    free: Literal["inner", "all"] | None = None
    augmentation: Augmented | None = None
    material: Material | None = None
    recipe: SubspaceTraining | None = None
    start: Part | None = None
    penalty: Part | None = None
    seed: str | None = None


class Places(Model):
    curve: Part
    transform: Part
    ends: list[str]
    augmentation: Augmented
    material: Material
    batchnorm: BatchNorm
    memory_format: Format


class Place(Places):
    at: int | list[float] | list[list[float]]


class Pick(Places):
    merge: Part
    data: Literal["validation", "clean"]
    images: Count
    batch_size: Whole


class Measure(Declared):
    name: str
    probe: Part
    data: str
    images: Count
    at: Literal["all", "worst"]
    worst: str | None = None
    batch_size: Whole
    seed: int | str


class Statistics(Declared):
    draws: Annotated[int, Field(ge=1, le=1_000_000)]
    level: Annotated[float, Field(gt=0, lt=1)]
    correlations: list[list[str]]


class Soundness(Declared):
    learned: Share
    errors: Size
    share: Share
    planted: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    apart: Size


class Figures(Declared):
    formats: list[str]
    dpi: Annotated[int, Field(ge=1, le=2000)]


class Merges(Declared):
    labels: dict[str, str]  # by name; the first is what the others are compared with
    far: Share


class Report(Declared):
    report: Figures
    claims: list[Part]
    statistics: Statistics
    soundness: Soundness
    title: str
    labels: dict[str, str]
    merges: Merges | None = None


class Merge(Declared):
    merge: str  # the name of the one that is written
    merges: Merges
    title: str


class Precheck(Model):
    material: Material
    batch_size: Whole
    memory_format: Format
    seed: str
    ends: list[str]
    min_accuracy_over_chance: Size
    level: Share
    far: Share
    low: Share


class Signals(Declared):
    signals: dict[str, Part]
    images: Whole
    least_contrast: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Choose(Model):
    ends: list[str]
    augmentation: Augmented
    material: Material
    repairs: dict[str, Part]
    suspicion: Signals
    selection: Part
    batchnorm: BatchNorm
    batch_size: Whole
    memory_format: Format
    seed: str


class Reactivation(Declared):
    images: Annotated[int, Field(ge=0)]
    steps: Annotated[list[Whole], Field(min_length=1)]
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CardSettings(Declared):
    reactivation: Reactivation
    transfer: list[str]
    repaired: dict[str, Fraction]
    warn: dict[str, Fraction]


class Asked(Declared):
    probe: Part
    data: str
    images: Count


class Card(Declared):
    method: str
    replicate: int
    probes: dict[str, Asked]
    card: CardSettings
    report: Figures
    claims: list[Part]
    soundness: Soundness
    title: str
    backdoor: Part
    sources: list[int] | Literal["all"]


KINDS: tuple[type[Declared], ...] = (
    *(Data, Split, Poison, Train, Load, Edit, Draw, Extract, Connect, Place, Pick, Measure, Report, Precheck, Merge),
    *(Choose, Card),
)
DECLARED = {kind.__name__.lower(): kind for kind in KINDS} | {"refit": Choose}


def check(name: str, label: str, config: Mapping[str, Any]) -> None:
    """Raises InputError for a key that the stage does not read, lacks, or whose value has a wrong type or range."""
    validate(DECLARED[name], label, config)

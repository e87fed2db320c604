"""A node of the plan, and its identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mcr.store import identity


@dataclass(frozen=True)
class Stage:
    """A node of the plan: what is computed, by which recipe, from which other stages.

    Attributes:
        name: The module below ``mcr.stages`` that computes it.
        version: Raised when the code's numbers change, so that old results are not taken for new ones.
        config: The resolved recipe, plain containers only.
        needs: Role to stage.
        label: What people read ("train start"); not part of the identity.
        places: Where files from outside lie; not part of the identity, their content is (in the recipe, as a digest).
        beyond: Stages whose files this one reads although they are needs of its needs. Their keys are part of the
            identity by way of those; they are listed so that they are made, and checked, before this stage.
    """

    name: str
    version: int
    config: Mapping[str, Any]
    needs: Mapping[str, Stage] = field(default_factory=dict)
    label: str = ""
    places: Mapping[str, str] = field(default_factory=dict)
    beyond: tuple[Stage, ...] = ()

    @cached_property
    def key(self) -> str:
        # Kept: a stage is reached on many ways through the plan, and each would hash all that lies below it.
        needs = {role: {"key": stage.key} for role, stage in self.needs.items()}
        recipe = {"stage": self.name, "version": self.version, "config": self.config, "needs": needs}
        return identity.stage_key(recipe)

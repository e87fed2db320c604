"""The plan of a run's networks: for each name the stages that will train, load or copy it, and edit it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mcr.errors import InputError
from mcr.plans import alignments, recipes, together
from mcr.plans.node import Config, Stages, node
from mcr.store import identity
from mcr.store.stage import Stage


@dataclass
class Networks:
    """The named networks of a configuration, as stages.

    Attributes:
        cfg: The whole configuration.
        model: Architecture and normalisation.
        dataset: The stages ``data`` and ``split``.
        whole: Name and stage of the subspace that was trained with its ends; None before ``final`` was called, and
            where there is none.
        made: Name and number of edits to the stage that makes the network so far.
        in_progress: What is being planned: met again, the configuration is a cycle.
    """

    cfg: Config
    model: Config
    dataset: Stages
    whole: tuple[str, Stage] | None = None
    made: dict[tuple[str, int], Stage] = field(default_factory=dict)
    in_progress: list[tuple[str, int]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """In the order of the configuration."""
        return list(self.cfg["endpoints"])

    def member(self, name: str) -> int:
        """The position of a network, a part of its seeds: two networks of one recipe have other weights by it alone."""
        return self.names.index(name)

    @property
    def trains_together(self) -> bool:
        """Whether one training makes all ends."""
        return any(edit["kind"] == together.KIND for name in self.names for _, edit in self.edits(name))

    def edits(self, name: str) -> list[tuple[str, Config]]:
        """The edits of a network, in order."""
        return list(self.cfg["endpoints"][name]["edits"].items())

    def final(self) -> dict[str, Stage]:
        """Name to the stage that makes the finished network, all edits done.

        Raises:
            InputError: For networks that are made of each other, a copy or snapshot of what is not there, edits that
                cannot be done together, a backdoor or an injection that nobody has chosen.
        """
        kinds = {name: [edit["kind"] for _, edit in self.edits(name)] for name in self.names}
        who = [name for name in self.names if together.KIND in kinds[name]]
        if not who:
            return {name: self.after(name, len(kinds[name])) for name in self.names}
        if who != self.names or any(found.index(together.KIND) != len(found) - 1 for found in kinds.values()):
            raise InputError(
                f"edit=path_aware and edit=together train all ends together, as the last edit of each; "
                f"{', '.join(who)} of {', '.join(self.names)} have it: use ends=path_aware or ends=three_together"
            )
        sources = {self.cfg["endpoints"][name]["source"] for name in self.names}
        earlier = {kind for found in kinds.values() for kind in found[:-1]}
        if not (sources <= {"train", "snapshot", "fresh"} and earlier <= {"tune"}):
            raise InputError(
                "what trains all ends together trains them itself: endpoints cannot be checkpoints or copies, and only "
                "edits that train may come before it"
            )
        ends = {name: self.after(name, len(kinds[name]) - 1) for name in self.names}
        edits = [self.edits(name)[-1][1] for name in self.names]
        trained = together.training(self.cfg, self.model, edits, ends, self.dataset, lambda: self.poison(0))
        self.whole = together.whole(self.cfg, edits[0], trained)
        return together.corners(trained, self.names)

    def untampered(self, name: str) -> Stage:
        """A network without edits, trained on clean images; of a copy that of the other network; a file as it came."""
        if self.cfg["endpoints"][name]["source"] == "copy":
            return self.untampered(self._other(name))
        return self._source(name, {"images": "clean"})

    def after(self, name: str, count: int) -> Stage:
        """A network after its first so many edits; after none as it was trained, loaded or copied."""
        place = (name, count)
        if place in self.in_progress:
            raise InputError(
                f"endpoints: {' and '.join(dict.fromkeys(n for n, _ in self.in_progress))} are made of each other"
            )
        if place not in self.made:
            self.in_progress.append(place)
            self.made[place] = self._edited(name, count) if count else self._source(name, {})
            self.in_progress.remove(place)
        return self.made[place]

    def _other(self, name: str) -> str:
        other = str(self.cfg["endpoints"][name]["of"])
        if other not in self.names or other == name:
            raise InputError(f"endpoints.{name}.of={other} must name another network: {', '.join(self.names)}")
        return other

    def _source(self, name: str, changes: Config) -> Stage:
        """A network before its edits; ``changes`` take the place of settings of its training."""
        chosen = self.cfg["endpoints"][name]
        source = recipes.one_of(
            f"endpoints.{name}.source", chosen["source"], ("train", "fresh", "load", "copy", "snapshot")
        )
        if source == "copy":
            other = self._other(name)
            return self.after(other, len(self.edits(other)))
        if source == "load":
            config = {**self.model, **{name: chosen[name] for name in ("digest", "most_megabytes", "key")}}
            return Stage(
                "load", 2, config, {"data": self.dataset["data"]}, f"load {name}", places={"path": chosen["path"]}
            )
        if source == "snapshot":
            return self._snapshot(name, changes)
        if source == "fresh":
            seed = identity.key({"replicate": self.cfg["replicate"], "member": self.member(name)})
            return node("draw", f"draw {name}", {**self.model, "seed": seed}, data=self.dataset["data"])
        return self._trained(name, {**chosen, **changes}, f"train {name}", {})

    def _snapshot(self, name: str, changes: Config) -> Stage:
        """A network of an earlier epoch: the training of the other one, ended there. That one's edits are not done."""
        other, chosen = self._other(name), self.cfg["endpoints"][name]
        whole = self.cfg["endpoints"][other]
        if whole["source"] != "train":
            raise InputError(f"endpoints.{name}: a snapshot is of a training; endpoints.{other} is a {whole['source']}")
        if not 1 <= chosen["epoch"] <= whole["epochs"]:
            raise InputError(
                f"endpoints.{name}.epoch={chosen['epoch']} must lie in 1..{whole['epochs']}, the epochs of {other}"
            )
        part = {**whole, **changes, "keep": "last"}
        return self._trained(other, part, f"train {name}", {"stop": chosen["epoch"]})

    def _trained(self, name: str, chosen: Config, label: str, changes: Config) -> Stage:
        """A training on the whole train split, with the seed of the named network."""
        member = self.member(name)
        images = recipes.one_of(f"endpoints.{name}.images", chosen["images"], ("clean", "poisoned"))
        recipe = recipes.training(
            self.cfg, recipes.without(chosen, "source", "label", "images", "edits", "trusted"), chosen["objective"]
        )
        config = {
            **self.model,
            "augmentation": self.cfg["dataset"]["augmentation"],
            "material": {"split": "train", "images": "all", "held_out": 0},
            **({"trusted": {"split": "clean", "held_out": 0, **chosen["trusted"]}} if "trusted" in chosen else {}),
            "recipe": {**recipe, "stop": recipe["epochs"], **changes},
            "seed": identity.key({"replicate": self.cfg["replicate"], "member": member}),
        }
        needs = {"poison": self.poison(member)} if images == "poisoned" else {}
        return node("train", f"poison-{label}" if needs else label, config, **needs, **self.dataset)

    def poison(self, member: int) -> Stage:
        """Which images an attacker poisons: one set for all networks, or one for each."""
        cfg, part = self.cfg, self.cfg["poisoning"]
        if not cfg["backdoor"]:
            raise InputError("a poisoned training needs a backdoor: add backdoor=badnets (mcr list backdoor)")
        sets = recipes.one_of("poisoning.sets", part["sets"], ("shared", "own"))
        recipes.one_of("poisoning.stamp", part["stamp"], ("before", "after"))
        drawn = {"replicate": cfg["replicate"], "use": "poison"} | ({"member": member} if sets == "own" else {})
        config = {
            "backdoor": cfg["backdoor"],
            "poisoning": recipes.poisoning(cfg),
            "seed": identity.key(drawn),
        }
        label = "poison" if sets == "shared" else f"poison {self.names[member]}"
        return node("poison", label, config, **self.dataset)

    def _edited(self, name: str, count: int) -> Stage:
        edit, chosen = self.edits(name)[count - 1]
        before = self.after(name, count - 1)
        kind = recipes.one_of(f"endpoints.{name}.edits.{edit}.kind", chosen["kind"], ("edit", "tune", alignments.JOINT))
        numbers = recipes.one_of(f"endpoints.{name}.edits.{edit}.numbers", chosen["numbers"], ("shared", "own"))
        drawn: dict[str, Any] = {"replicate": self.cfg["replicate"], "use": chosen["use"]}
        seed = identity.key(drawn | ({"member": self.member(name)} if numbers == "own" else {}))
        label = f"{edit} {name}"
        if kind == "tune":
            return self._tuned(name, chosen, before, seed, label)
        part = recipes.without(chosen, *recipes.PLANNED)
        if "injection" in part and not part["injection"]:
            raise InputError("edit=inject needs an injection: add injection=fault_sneaking or injection=gaussian")
        if "injection" in part:
            part["injection"] = recipes.without(part["injection"], "numbers")
        if kind == alignments.JOINT:
            aligned = alignments.joint(self.cfg["endpoints"], name, edit)
            part["position"] = aligned.index(name)
            others = [self._before(other, edit) for other in aligned if other != name]
        elif "reference" in chosen:
            reference = alignments.reference(self.cfg["endpoints"], name, edit)
            others = [self.after(reference, len(self.edits(reference)))]
        else:
            others = self._others(name, edit) if chosen["joint"] else []
        needs = {f"other {index}": other for index, other in enumerate(others)}
        config = {**self.model, "edit": part, "data": chosen["data"], "seed": seed}
        return node("edit", label, config, init=before, **needs, **self.dataset)

    def _others(self, name: str, edit: str) -> list[Stage]:
        """The other networks before their own edit of that name, finished where they have none; no copies of this."""
        kept = [other for other in self.names if other != name and name not in self._ancestors(other)]
        return [self._before(other, edit) for other in kept]

    def _before(self, name: str, edit: str) -> Stage:
        names = [known for known, _ in self.edits(name)]
        return self.after(name, names.index(edit) if edit in names else len(names))

    def _ancestors(self, name: str) -> list[str]:
        """The networks that one is a copy of; copies of each other are refused where they are made."""
        found: list[str] = []
        while self.cfg["endpoints"][name]["source"] == "copy" and self._other(name) not in found:
            name = self._other(name)
            found.append(name)
        return found

    def _tuned(self, name: str, chosen: Config, before: Stage, seed: str, label: str) -> Stage:
        """Trained on: the attacker with the poisoned train split, the defender with the clean images of his budget."""
        images = recipes.one_of(f"the images of {label}", chosen["images"], ("clean", "poisoned"))
        part = recipes.without(chosen, "kind", "label", "numbers", "use", "images")
        recipe = recipes.training(self.cfg, part, chosen["objective"])
        poisoned = images == "poisoned"
        config = {
            **self.model,
            "augmentation": self.cfg["dataset"]["augmentation"],
            "material": {"split": "train", "images": "all", "held_out": 0} if poisoned else recipes.material(self.cfg),
            "recipe": {**recipe, **({"stop": recipe["epochs"]} if "epochs" in recipe else {})},
            "seed": seed,
        }
        needs = {"poison": self.poison(self.member(name))} if poisoned else {}
        return node("train", label, config, init=before, **needs, **self.dataset)

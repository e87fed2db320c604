"""What is asked along a subspace: one stage for each probe, with a key of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcr.errors import InputError
from mcr.plans import recipes
from mcr.plans.node import Config, Stages, node
from mcr.plans.subspaces import FITTED, place, roles
from mcr.plans.together import WHOLE
from mcr.store.stage import Stage

ASKED = ("data", "images", "at", "along")  # of a probe's configuration: where and on what it is asked
WORST = "worst "  # at the ends and at the worst place inside by a metric
TRIGGERLESS = "mcr.backdoors.wrong_labels.WrongLabels"
DATA = ("test", "fitted", "validation", "clean", "train", "injected", "restored")


def asked(cfg: Config, ends: Stages) -> dict[str, dict[str, Any]]:
    """The probes that are asked, by name.

    A probe of which a part is nothing (attack=none, backdoor=none, or one without a trigger), which looks at no image,
    or at images of an injection where nothing was injected, is not asked.
    """
    found = {}
    for name, chosen in cfg["probes"].items():
        probe = recipes.attacked(cfg, chosen)
        if "attacks" in probe:
            probe["attacks"] = (
                {key: stronger(cfg["attack"], one) for key, one in chosen["attacks"].items()} if cfg["attack"] else {}
            )
        recipes.one_of(f"probes.{name}.data", probe["data"], DATA)
        for where in [probe["along"]] if isinstance(probe["along"], str) else probe["along"]:
            recipes.one_of(
                f"probes.{name}.along",
                where,
                ("all", FITTED, *(whole for whole, _ in WHOLE.values()), *cfg.get("references", {})),
            )
        parts = [value for value in probe.values() if isinstance(value, Mapping)]
        empty = not all(parts) or any(part.get("_target_") == TRIGGERLESS for part in parts)
        # Noise aims at no image.
        injected = any(stage.config.get("edit", {}).get("injection", {}).get("attacked", 0) for stage in _history(ends))
        if empty or probe["images"] == 0 or (probe["data"] in ("injected", "restored") and not injected):
            continue
        found[name] = probe
    return found


def _history(ends: Stages) -> list[Stage]:
    """All stages that the ends are made by."""
    found, waiting = [], list(ends.values())
    while waiting:
        stage = waiting.pop()
        found.append(stage)
        waiting += [need for role, need in stage.needs.items() if role == "init"]
    return found


def stronger(attack: Config, chosen: Config) -> dict[str, Any]:
    """An attack in the run's ball; one with steps takes the step of the run's attack of its kind, or one that
    crosses the ball."""
    if "start" in chosen and "step_size" not in chosen:
        crossing = 2.5 * attack["eps"] / max(1, chosen["steps"])  # Madry et al. (2018)
        # Another attack's step_size may be something else: of Carlini and Wagner's it is Adam's rate.
        own = attack["step_size"] if attack["_target_"] == chosen["_target_"] else crossing
        return {**chosen, "step_size": own, **recipes.ball(attack)}
    return {**chosen, **recipes.ball(attack)}


def question(cfg: Config, name: str, probe: Config) -> dict[str, Any]:
    """The recipe of a measure at all places.

    Args:
        cfg: The whole configuration.
        name: Of the probe.
        probe: As ``asked`` gives it.
    """
    part = cfg["evaluation"]
    return {
        "name": name,
        "probe": recipes.without(probe, *ASKED),
        **{key: probe[key] for key in ("data", "images")},
        "at": "all",
        **{key: part[key] for key in ("batch_size", "seed")},
    }


def measures(cfg: Config, name: str, space: Stage, ends: Stages, dataset: Stages, material: Config) -> dict[str, Stage]:
    """Probe to its stage, for one subspace.

    Args:
        name: Of the subspace.
        space: Its fit.
        material: The images that it was fitted on.
    """
    places: dict[str, Stage] = {}
    found: dict[str, Stage] = {}
    chosen = {
        probe: part for probe, part in asked(cfg, ends).items() if part["along"] == "all" or name in part["along"]
    }

    def at(where: Any) -> Stage:
        label = name if where == cfg["evaluation"]["grid"] else f"{name} at {where}"
        return places.setdefault(str(where), place(cfg, label, where, space, ends, dataset, material))

    # Those that look where another one is worst come after it.
    for probe in sorted(chosen, key=lambda probe: str(chosen[probe]["at"]).startswith(WORST)):
        part = chosen[probe]
        config = question(cfg, probe, part)
        needs = {"place": at(cfg["evaluation"]["grid"])}
        if str(part["at"]).startswith(WORST):
            metric = str(part["at"]).removeprefix(WORST)
            # Of probes robust and robust_l2 the longer name.
            other = max((known for known in found if metric.startswith(f"{known}_")), key=len, default=None)
            if other is None:
                raise InputError(f"probes.{probe}.at={part['at']}: no probe that is asked measures {metric}")
            config |= {"at": "worst", "worst": metric}
            needs |= {"worst": found[other], "place": found[other].needs["place"]}
        else:
            needs["place"] = at(part["at"])
        label = f"measure {probe}" if name == "path" else f"measure {probe} {name}"
        found[probe] = node("measure", label, config, **needs, subspace=space, **roles(ends), **dataset)
    return {probe: found[probe] for probe in chosen}

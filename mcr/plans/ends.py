"""The ends of a path: trained, loaded or copied, and tampered with."""

from __future__ import annotations

from mcr import identity
from mcr.errors import InputError
from mcr.plans import recipes
from mcr.plans.node import ROLES, VERSIONS, Config, Stages, node
from mcr.store import Stage

ENDPOINT = {"_target_": "mcr.training.endpoint.EndpointModule"}


def ends(cfg: Config, model: Config, materials: Stages) -> tuple[dict[str, Stage], dict[str, Stage], Stage | None]:
    """The ends without their tampering, the ends as they are joined, and the attacker's own path where it has one."""
    kinds = [cfg["tampers"][role]["kind"] for role in ROLES]
    copied = "copy" in cfg["endpoints"]["end"]
    if "copy" in cfg["endpoints"]["start"]:
        raise InputError("endpoints.start cannot be a copy: endpoints.end is made from endpoints.start")
    if copied and kinds[1] != "none":
        raise InputError("tampers.end must be none where endpoints.end is a copy: the copy has the start's tampering")
    if "path_aware" in kinds and kinds != ["path_aware", "path_aware"]:
        raise InputError("tamper=path_aware trains both ends together: use pair=path_aware")
    made = [role for role in ROLES if not (role == "end" and copied)]
    plain = {role: _endpoint(cfg, role, ROLES.index(role), model, materials) for role in made}
    ends = {role: _tampered(cfg, role, plain, model, materials) for role in made}
    attacker = None
    if "path_aware" in kinds:
        poison = _poison(cfg, 0, materials)
        part = recipes.without(cfg["tampers"]["start"], "kind")
        config = {
            **model,
            "curve": cfg["curve"],
            "free_ends": True,
            "augmentation": cfg["dataset"]["augmentation"],
            "recipe": {**recipes.training(cfg, part, cfg["objective"]), "split": "train"},
            "seed": identity.key({"replicate": cfg["replicate"], "use": "path-aware"}),
        }
        attacker = node("connect", "tamper path", config, poison=poison, **ends, **materials)
        ends = {role: node("release", f"release {role}", {"role": role}, path=attacker) for role in ROLES}
    if copied:
        ends["end"] = _copy(cfg, ends["start"], model, materials)
    return plain, ends, attacker


def _endpoint(cfg: Config, role: str, member: int, model: Config, materials: Stages) -> Stage:
    chosen = cfg["endpoints"][role]
    if "digest" in chosen:
        config = {**model, "digest": chosen["digest"], "most_megabytes": chosen["most_megabytes"]}
        needs = {"data": materials["data"]}
        return Stage("load", VERSIONS["load"], config, needs, f"load {role}", places={"path": chosen["path"]})
    config = {
        **model,
        "augmentation": cfg["dataset"]["augmentation"],
        "recipe": recipes.training(cfg, chosen, chosen["objective"]),
        # The two ends differ by their member number alone, so a pair never joins a network to itself.
        "seed": identity.key({"replicate": cfg["replicate"], "member": member}),
    }
    return node("train", f"train {role}", config, **materials)


def _tampered(cfg: Config, role: str, plain: Stages, model: Config, materials: Stages) -> Stage:
    end, member = plain[role], ROLES.index(role)
    tamper = cfg["tampers"][role]
    if tamper["kind"] == "none":
        return end
    seed = {"replicate": cfg["replicate"], "use": "tamper"}
    if tamper["kind"] == "inject":
        if recipes.named(cfg["injection"], "NoInjection"):
            raise InputError("tamper=inject needs an injection: add injection=fault_sneaking or injection=gaussian")
        # Chosen errors are the same in both ends, what an attacker would do; noise is each end's own.
        own = {"member": member} if recipes.named(cfg["injection"], "Gaussian") else {}
        config = {**model, "injection": cfg["injection"], "seed": identity.key({**seed, **own})}
        other = plain.get(ROLES[1 - member], end)
        return node("tamper", f"tamper {role}", config, init=end, other=other, **materials)
    poison = _poison(cfg, member, materials)
    if tamper["kind"] == "tune":
        part = recipes.without(tamper, "kind")
        config = {
            **model,
            "augmentation": cfg["dataset"]["augmentation"],
            "recipe": recipes.training(cfg, part, tamper["objective"]),
            "seed": identity.key({**seed, "member": member}),
        }
        return node("train", f"tamper {role}", config, init=end, poison=poison, **materials)
    if end.name != "train" and tamper["kind"] == "path_aware":
        raise InputError("pair=path_aware trains both networks itself: endpoints.start and .end cannot be checkpoints")
    if end.name != "train":
        raise InputError(f"tampers.{role}: a checkpoint is finished, so it is not trained on poison: use tamper=tune")
    return node("train", f"poison-train {role}", end.config, poison=poison, **materials)


def _poison(cfg: Config, member: int, materials: Stages) -> Stage:
    if recipes.named(cfg["backdoor"], "NoBackdoor"):
        raise InputError("a poisoned training needs a backdoor: add backdoor=badnets (mcr list backdoor)")
    part = cfg["poisoning"]
    if part["sets"] not in ("shared", "own") or part["stamp"] not in ("before", "after"):
        raise InputError("poisoning.sets must be shared or own, poisoning.stamp before or after")
    drawn = {"replicate": cfg["replicate"], "use": "poison"} | ({"member": member} if part["sets"] == "own" else {})
    config = {
        "backdoor": cfg["backdoor"],
        "poisoning": recipes.without(part, "sets"),
        "seed": identity.key(drawn),
    }
    return node("poison", "poison" if part["sets"] == "shared" else f"poison {ROLES[member]}", config, **materials)


def _copy(cfg: Config, start: Stage, model: Config, materials: Stages) -> Stage:
    chosen = cfg["endpoints"]["end"]
    seed = identity.key({"replicate": cfg["replicate"], "use": "copy"})
    if chosen["copy"] == "permuted":
        return node("permute", "permute end", {**model, "seed": seed}, init=start, data=materials["data"])
    recipe = recipes.defense(cfg, chosen["optimizer"], chosen["optimizer"]["lr"], **ENDPOINT)
    config = {
        **model,
        "augmentation": cfg["dataset"]["augmentation"],
        "recipe": {**recipe, "steps": chosen["steps"]},
        "material": recipes.material(cfg),
        "seed": seed,
    }
    return node("train", "tune end", config, init=start, **materials)

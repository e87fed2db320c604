"""From configuration to objects: the single call of Hydra's ``instantiate``."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from mcr import modules
from mcr.errors import InputError
from mcr.store.identity import numbers

OWN_TARGETS = ("mcr.", "torch.optim.")
SOURCE = "_source_"  # beside an import path outside of them: the digest of what stands behind it
ROOMS = (  # of this package, that have what a configuration names
    *(
        "architectures",
        "attacks",
        "backdoors",
        "curves",
        "datasets",
        "detectors",
        "edits",
        "injections",
        "merges",
        "objectives",
        "penalties",
    ),
    *("probes", "repairs", "sampling", "schedules", "selection", "signals", "starts", "training", "transforms"),
)
# Packages whose functions make no networks; many read files that run code, or reach the system.
NO_NETWORKS = sys.stdlib_module_names | {
    *("torch", "numpy", "scipy", "sklearn", "joblib", "pandas", "yaml", "dill", "cloudpickle", "hydra", "omegaconf"),
    *("wandb", "matplotlib", "pytorch_lightning", "lightning", "PIL", "pip", "setuptools", "IPython", "fsspec"),
}
MOST = 200  # characters of a value in a message
MOST_NAMES = 20  # a longer list helps nobody in an error line


def nearest(word: str, names: list[str]) -> str:
    """The valid names closest to a mistyped one, as the end of an error line."""
    close = get_close_matches(word, list(dict.fromkeys(names)), n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"valid: {', '.join(sorted(names))}" if len(names) <= MOST_NAMES else "see mcr --cfg job and mcr list"


def locate(target: str) -> Any:
    """The class or function behind an import path.

    Raises:
        InputError: Naming the closest names where there is none; where it is neither class nor function, or one that a
            module has only imported from elsewhere (``mcr.store.identity.subprocess.run``).
    """
    parts = target.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise InputError(f"_target_={target[:MOST]} is no import path: write package.module.Name")
    found = _found(target, parts)
    if not (inspect.isclass(found) or inspect.isroutine(found)):
        raise InputError(f"_target_={target} is a {type(found).__name__}, no class or function")
    home = str(getattr(found, "__module__", None))
    place = next((own for own in OWN_TARGETS if target.startswith(own)), f"{parts[0]}.")
    if not f"{home}.".startswith(place):
        raise InputError(f"_target_={target} is {home}.{found.__name__}, which is not of {place[:-1]}")
    if place == "mcr." and home.split(".")[1] not in ROOMS:
        raise InputError(f"_target_={target} is nothing that a configuration names; it may be of {', '.join(ROOMS)}")
    return found


def _found(target: str, parts: list[str]) -> Any:
    if modules.find(parts[0]) is None:
        raise InputError(f"_target_={target}: there is no module {parts[0]}; is its folder on PYTHONPATH?")
    for length in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:length])
        try:
            found = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name + ".").startswith(error.name + "."):
                raise InputError(
                    f"_target_={target}: importing {name} needs the missing package {error.name}"
                ) from None
            continue
        except SystemExit as end:
            raise InputError(
                f"_target_={target}: importing {name} ends the program with SystemExit({end.code!r}): what it does as "
                'a program belongs below if __name__ == "__main__"'
            ) from end
        for part in parts[length:]:
            if not hasattr(found, part):
                names = [entry for entry in dir(found) if not entry.startswith("_")]
                close = get_close_matches(part, names, n=3, cutoff=0.5)
                hint = f"did you mean {' or '.join(close)}?" if close else "check the spelling"
                raise InputError(f"_target_={target}: {getattr(found, '__name__', name)} has no {part}; {hint}")
            found = getattr(found, part)
        return found
    raise InputError(f"_target_={target}: there is no module {parts[0]}; is its folder on PYTHONPATH?")


def locate_network(target: str) -> Any:
    """The class of a network, or the function that makes it, behind an import path: judged by what was found there.

    Raises:
        InputError: As ``locate``; for a class that is no torch.nn.Module, a function of a package that makes none.
    """
    found = locate(target)
    from torch import nn

    if inspect.isclass(found) and not issubclass(found, nn.Module):
        raise InputError(f"architecture._target_={target} is a class, but no torch.nn.Module")
    if not inspect.isclass(found) and target.partition(".")[0] in NO_NETWORKS:
        raise InputError(
            f"architecture._target_={target} is a function of {target.partition('.')[0]}: a network is a "
            "torch.nn.Module, or a function of a package of networks or of your own that makes one"
        )
    return found


def build(config: Mapping[str, Any], **values: Any) -> Any:
    """The object that a configuration names, with values that only the program knows.

    Args:
        config: A plain mapping with ``_target_``; fractions may be text.
        **values: Constructor arguments that are no configuration (a network, a seed).

    Raises:
        InputError: For a target outside this package, an unknown or a missing argument.
    """
    target = config["_target_"]
    if not target.startswith(OWN_TARGETS) and SOURCE not in config:
        module = target.rpartition(".")[0] or target
        raise InputError(
            f"_target_={target} is not allowed here: only {' and '.join(OWN_TARGETS)} are built, and the modules of "
            f"your own that plugins=[{module}] names"
        )
    check_arguments(config)
    return _instantiate(config, values)


def check_arguments(config: Mapping[str, Any]) -> None:
    """Raises InputError for an argument that the target of a configuration does not take."""
    accepted = parameters(config["_target_"])
    if open_ended(accepted):
        return
    for name in config:
        if name not in accepted and not (name.startswith("_") and name.endswith("_")):
            raise InputError(f"{config['_target_']} takes no {name}; {nearest(name, list(accepted))}")


def network(config: Mapping[str, Any], facts: Mapping[str, Any]) -> Any:
    """A network from any import path, told the facts of the data set that its constructor asks for by name.

    Args:
        config: ``_target_`` and the user's arguments.
        facts: Argument name to value; passed on where the constructor names it, ``num_classes`` also
            where it takes arbitrary keywords (torchvision).

    Raises:
        InputError: Where the constructor refuses its arguments.
    """
    locate_network(config["_target_"])
    try:
        return _instantiate(config, told(config, facts))
    except (TypeError, ValueError, RuntimeError, AssertionError, SystemExit) as error:
        if isinstance(error, InputError):
            raise
        said = f"it ends the program with SystemExit({error.code!r})" if isinstance(error, SystemExit) else error
        raise InputError(f"architecture {config['_target_']} cannot be built: {said}") from error


def told(config: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the facts that ``network`` passes on."""
    accepted = parameters(config["_target_"])
    return {
        name: value
        for name, value in facts.items()
        if name not in config and (name in accepted or (open_ended(accepted) and name == "num_classes"))
    }


def open_ended(parameters: Mapping[str, inspect.Parameter]) -> bool:
    """Whether arbitrary keywords are among the parameters."""
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())


def parameters(target: str) -> Mapping[str, inspect.Parameter]:
    """What stands behind an import path takes. Raises InputError where it is nothing that can be called."""
    found = locate(target)
    try:
        return inspect.signature(found).parameters
    except (TypeError, ValueError):
        raise InputError(f"_target_={target} is nothing that can be built with arguments") from None


def _instantiate(config: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    # Only the configuration goes through Hydra, which would turn dataclass instances among the values into configs.
    from hydra.utils import instantiate

    arguments = {name: value for name, value in config.items() if name != SOURCE}
    made = instantiate({**numbers(arguments), "_partial_": True}, _recursive_=False, _convert_="all")
    return made if config.get("_partial_") else made(**values)


def build_tree(config: Mapping[str, Any], **values: Any) -> Any:
    """The object that a configuration names, its parts built first: mappings with a ``_target_`` at any depth.

    Args:
        config: See ``build``.
        **values: Of the outermost object.
    """

    def made(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        parts = {name: made(part) for name, part in value.items()}
        if "_target_" not in value:
            return parts
        plain = {name: part for name, part in parts.items() if not isinstance(value[name], Mapping)}
        nested = {name: part for name, part in parts.items() if isinstance(value[name], Mapping)}
        return build(plain, **nested, **(values if value is config else {}))

    return made(config)

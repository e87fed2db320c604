"""Files of weights. A model file is hostile until loaded safely: nothing here ever runs code from it."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError  # a class to catch, loads nothing: torch.load(weights_only=True) refuses with it
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mcr.errors import InputError

NESTS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network")
PREFIXES = ("module.", "_orig_mod.", "network.", "model.", "net.")


def save(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write named tensors as safetensors; tied tensors are written under each of their names."""
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)


def load(path: Path) -> dict[str, Tensor]:
    """Named tensors from safetensors."""
    return load_file(path)


def load_foreign(path: Path, most_megabytes: float) -> dict[str, Tensor]:
    """A state dict from a user's file: safetensors, or a PyTorch file that needs no code to load.

    The dict may lie bare, or nested under one of the usual keys.

    Args:
        path: The file.
        most_megabytes: A larger file is refused before it is read, and so is an archive that would unpack to more.

    Raises:
        InputError: In one line, for a file that is too large, needs pickle to run code, is damaged, or holds no
            tensors.
    """
    try:
        _refuse_large(path, most_megabytes)
        found: Any = load_file(path) if path.suffix == ".safetensors" else _torch_load(path)
    except SafetensorError as error:
        raise InputError(f"{path} is no whole safetensors file: {error}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    for _ in range(2):  # a Lightning checkpoint inside another dict is as deep as it gets
        nest = next(
            (name for name in NESTS if isinstance(found, Mapping) and isinstance(found.get(name), Mapping)), None
        )
        found = found[nest] if nest else found
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path} holds no state dict: save model.state_dict() with torch.save or as safetensors")
    return {str(name): tensor for name, tensor in found.items()}


def _refuse_large(path: Path, most_megabytes: float) -> None:
    size = path.stat().st_size
    if size <= most_megabytes * 1e6 and zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
        except Exception as error:  # as for the parser of the weights
            raise _damaged(path, error) from None
    if size > most_megabytes * 1e6:
        raise InputError(f"{path} holds {size / 1e6:.1f} MB, the limit is {most_megabytes:g} MB (most_megabytes)")


def _torch_load(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the file is refused or loads: that is said
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise InputError(
            f"{path} needs code to run when it is loaded, or is no PyTorch file: refused; "
            "save model.state_dict() with torch.save, or as safetensors"
        ) from None
    except OSError:
        raise
    except Exception as error:  # whatever a parser stumbles over in a hostile file is a reason to refuse it
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is damaged or cut short: {(str(error) or type(error).__name__).splitlines()[0]}")


def fit_into(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> dict[str, str]:
    """Load a user's state dict into the network, with the usual prefixes taken off where all names have them.

    Returns:
        The network's names to those in the file.

    Raises:
        InputError: Naming the first missing or unexpected key, a differing shape, or a NaN or infinite tensor.
    """
    wanted = network.state_dict()
    names, origin = dict(state), {name: name for name in state}
    while not set(wanted) & set(names):
        prefix = next((known for known in PREFIXES if all(name.startswith(known) for name in names)), None)
        if prefix is None:
            break
        names = {name.removeprefix(prefix): tensor for name, tensor in names.items()}
        origin = {name.removeprefix(prefix): first for name, first in origin.items()}
    missing = next((name for name in wanted if name not in names), None)
    extra = next((name for name in names if name not in wanted), None)
    if missing or extra:
        problems = [f"lacks {missing}"] * (missing is not None) + [f"has the unexpected {extra}"] * (extra is not None)
        raise InputError(f"{path} {' and '.join(problems)}: is architecture= the network that it was saved from?")
    # Other buffers may be infinite by design, such as attention masks.
    learned = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    learned |= {name for name in wanted if name.endswith((".running_mean", ".running_var"))}
    for name, tensor in names.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{tuple(tensor.shape)} in the file, {tuple(wanted[name].shape)} in the network"
            raise InputError(f"{path}: {name} differs in shape: {shapes}")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise InputError(f"{path}: {name} is no plain dense tensor")
        if tensor.is_floating_point() != wanted[name].is_floating_point():
            kinds = f"{tensor.dtype} in the file, {wanted[name].dtype} in the network"
            raise InputError(f"{path}: {name} differs in type: {kinds}".replace("torch.", ""))
        if name in learned and not torch.isfinite(tensor).all():
            raise InputError(f"{path}: {name} holds NaN or infinite values")
    network.load_state_dict(names, strict=True)
    return origin

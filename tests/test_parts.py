"""The network's part of a file is found, told, and loaded no more strictly than torch loads it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from mcr.errors import InputError
from mcr.foreign.fit import Taken, fit_into
from mcr.foreign.part import USUAL
from mcr.foreign.reading import Contents, Entry, read
from mcr.weightspace.states import load_state

State = dict[str, Tensor]


class Net(nn.Module):
    """A body and a head, with a BatchNorm."""

    def __init__(self, seed: int = 1) -> None:
        torch.manual_seed(seed)
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        self.head = nn.Linear(3, 2)


STATE: State = Net(0).state_dict()
OTHER: State = Net(5).state_dict()
COUNTER = "body.1.num_batches_tracked"


def under(prefix: str, state: State = STATE) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def fitted(*entries: tuple[str, State], key: str = "auto", network: nn.Module | None = None) -> Taken:
    """What is taken of a file with these entries, whose places are written with slashes."""
    found = tuple(Entry(tuple(filter(None, path.split("/"))), dict(state), {}) for path, state in entries)
    return fit_into(network or Net(), Contents(Path("a.pt"), found), key)


@pytest.mark.parametrize("nest", ["", *USUAL[:6], "netC", "state_dict_ema", "a/b/c", "model/state_dict"])
@pytest.mark.parametrize(
    "prefix", ["", "module.", "network.", "_orig_mod.module.", "module.model.", "student.backbone."]
)
def test_the_network_is_found_under_any_key_and_below_any_prefix(nest: str, prefix: str) -> None:
    network = Net()
    taken = fitted((nest, under(prefix)), network=network)
    assert all(torch.equal(tensor, STATE[name]) for name, tensor in network.state_dict().items())
    assert taken.names == {
        name: (prefix + name, str(tensor.dtype).removeprefix("torch.")) for name, tensor in STATE.items()
    }
    label = ".".join([*filter(None, nest.split("/")), *filter(None, prefix.rstrip(".").split("."))])
    assert taken.told == ((f"read: {label}",) if label else ())


@pytest.mark.parametrize("words", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("outer", ["", "model.", "module."])
def test_words_of_wrappers_inside_names_are_dropped(words: str, outer: str) -> None:
    state = {outer + name.replace("body.", f"body.{words}"): tensor for name, tensor in STATE.items()}
    network = Net()
    taken = fitted(("", state), network=network)
    assert all(torch.equal(tensor, STATE[name]) for name, tensor in network.state_dict().items())
    assert {given for given, _ in taken.names.values()} == set(state)


def test_a_network_that_is_wrapped_itself_takes_files_of_both_kinds() -> None:
    network = Net()
    network.body = nn.Sequential(nn.DataParallel(network.body[0]), network.body[1])
    assert "body.0.module.weight" in network.state_dict()
    for state in (STATE, network.state_dict()):
        assert len(fitted(("", state), network=network).names) == len(STATE)


def test_two_names_that_would_become_one_are_refused() -> None:
    twice = {**{name.replace("body.", "body.module."): tensor for name, tensor in STATE.items()}, **under("", OTHER)}
    twice.pop("head.bias")
    with pytest.raises(InputError, match=r"lacks head\.bias"):
        fitted(("", twice))


LIGHTNING = {**under("model."), "criterion.weight": torch.ones(2), "accuracy.confmat": torch.ones(2, 2)}
MADRY = {**under("module.model."), **under("module.attacker.model."), "module.normalizer.mean": torch.zeros(3)}


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([("", dict(AveragedModel(Net(0)).state_dict()))], ("read: module", "other tensors, not read: n_averaged")),
        (
            [("state_dict", LIGHTNING)],
            (
                "read: state_dict.model",
                "other tensors, not read: state_dict.criterion.weight, state_dict.accuracy.confmat",
            ),
        ),
        (
            [("model", MADRY)],
            (
                "read: model.module.model",
                "would fit too, not read: model.module.attacker.model",
                "other tensors, not read: model.module.normalizer.mean",
            ),
        ),
        (
            [("model_ema", OTHER), ("model", STATE)],
            ("read: model", "would fit too, not read: model_ema"),
        ),
        ([("ema", OTHER), ("model/state_dict", STATE)], ("read: model.state_dict", "would fit too, not read: ema")),
        (
            [("teacher", {**STATE, "head.weight": torch.zeros(9, 3)}), ("student", STATE)],
            ("read: student", "would fit too, not read: teacher"),
        ),
        (
            [("", {"best": torch.ones(1)}), ("net", STATE), ("meters", {"loss": torch.ones(1)})],
            ("read: net", "other tensors, not read: meters, best"),
        ),
    ],
    ids=["AveragedModel", "Lightning", "MadryLab", "EMA", "EMA before", "teacher", "beside"],
)
def test_what_is_beside_the_network_is_left_out_and_told(entries, told) -> None:
    network = Net()
    taken = fitted(*entries, network=network)
    assert all(torch.equal(tensor, STATE[name]) for name, tensor in network.state_dict().items())
    for line in told:
        assert any(found.startswith(line) for found in taken.told), taken.told
    assert len(taken.told) == len(told)


@pytest.mark.parametrize(
    ("key", "seed"), [("model", 0), ("ema", 5), ("ema.module", 5), ("auto", 0), ("state.student", 0)]
)
def test_the_key_decides_where_several_fit(key: str, seed: int) -> None:
    network = Net()
    entries = [
        ("ema", under("module.", OTHER)),
        ("model", STATE),
        ("state", {**under("student."), **under("t.", OTHER)}),
    ]
    fitted(*entries, key=key, network=network)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in Net(seed).state_dict().items())


@pytest.mark.parametrize(
    ("entries", "key", "words"),
    [
        ([("netC", STATE), ("netD", STATE)], "netG", "has no entry netG: tensors lie under netC, netD"),
        ([("", STATE)], "netG", "has no entry netG: tensors lie under no key at all"),
        ([("netC", STATE)], "net", "has no entry net:"),
        ([("netC", {"a": torch.ones(1)}), ("net", STATE)], "netC", r"lacks body\.0\.weight .*\(under netC\)"),
        ([("", {**STATE, "total_ops": torch.ones(1)})], "auto", "has the unexpected total_ops"),
        ([("", {**STATE, "body.total_ops": torch.ones(1)})], "auto", r"has the unexpected body\.total_ops"),
        ([("m", under("module.", {**STATE, "total_ops": torch.ones(1)}))], "auto", "has the unexpected total_ops"),
        ([("", {**STATE, **under("ema.")})], "auto", r"has the unexpected ema\.body"),
        ([("", {name: t for name, t in STATE.items() if name != "head.bias"})], "auto", r"lacks head\.bias"),
        ([("", {"a": torch.ones(1)})], "auto", r"lacks body\.0\.weight and has the unexpected a"),
        ([("a", {"w": torch.ones(1)}), ("b", {"v": torch.ones(1)})], "auto", r"tensors lie under b too \(key=...\)"),
        ([("", {**STATE, "head.weight": torch.zeros(2, 5)})], "auto", r"head\.weight differs in shape: \(2, 5\)"),
        ([("", {**STATE, "head.bias": torch.tensor([1, 2])})], "auto", r"head\.bias differs in type: int64"),
        ([("", {**STATE, "head.bias": torch.tensor([1, torch.nan])})], "auto", r"head\.bias holds NaN or infinite"),
        ([("", {**STATE, "head.bias": torch.tensor([1, torch.inf])})], "auto", r"head\.bias holds NaN or infinite"),
        ([("", {**STATE, "body.1.running_mean": torch.full((3,), torch.nan)})], "auto", "running_mean holds NaN"),
        ([("", {**STATE, "body.1.running_var": torch.full((3,), torch.inf)})], "auto", "running_var holds NaN"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_changes_nothing(entries, key: str, words: str) -> None:
    network = Net()
    with pytest.raises(InputError, match=words):
        fitted(*entries, key=key, network=network)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in Net().state_dict().items())


@pytest.mark.parametrize("what", ["a sparse_tensor", "of the type complex64", "dict"])
def test_what_is_no_dense_tensor_is_refused_by_name(what: str) -> None:
    entry = Entry((), {name: tensor for name, tensor in STATE.items() if name != "head.bias"}, {"head.bias": what})
    with pytest.raises(InputError, match=rf"head\.bias is no plain dense tensor of real numbers, but {what}"):
        fit_into(Net(), Contents(Path("a.pt"), (entry,)))


CHANGES: dict[str, Callable[[State], State]] = {
    "without counters": lambda state: {name: tensor for name, tensor in state.items() if name != COUNTER},
    "all float": lambda state: {name: tensor.float() for name, tensor in state.items()},
    "averaged": lambda state: {**state, COUNTER: torch.tensor(12.5)},
    "all half": lambda state: {name: tensor.half() for name, tensor in state.items()},
    "all bfloat16": lambda state: {name: tensor.bfloat16() for name, tensor in state.items()},
    "double": lambda state: {name: tensor.double() for name, tensor in state.items()},
    "overflowed counter": lambda state: {**state, COUNTER: torch.tensor(70000.0).half()},
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_what_torch_loads_strictly_is_loaded(change: str, suffix: str, tmp_path: Path) -> None:
    state, path, network, expected = CHANGES[change](STATE), tmp_path / f"a.{suffix}", Net(), Net()
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    expected.load_state_dict(state, strict=True)
    taken = fit_into(network, read(path, 10.0))
    for name, tensor in expected.state_dict().items():
        assert network.state_dict()[name].dtype == tensor.dtype
        assert torch.equal(network.state_dict()[name], tensor) or change == "overflowed counter"
    # As given: the file's names and types, so that torch loads what comes back as it loaded the file.
    assert taken.names == {name: (name, str(tensor.dtype).removeprefix("torch.")) for name, tensor in state.items()}


class Indexed(nn.Module):
    """Whole numbers that are no counter."""

    places: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2)
        self.register_buffer("places", torch.tensor([0, 1, 2]))


def test_whole_numbers_may_have_become_floating_point_but_not_fractions() -> None:
    network = Indexed()
    state = {name: tensor.float() for name, tensor in network.state_dict().items()}
    assert fitted(("", state), network=network).names["places"] == ("places", "float32")
    assert network.places.dtype == torch.int64
    for wrong in (0.5, torch.nan, torch.inf, 1e30):
        with pytest.raises(InputError, match="places differs in type: float32"):
            fitted(("", {**state, "places": torch.tensor([0, 1, wrong])}), network=network)


class Versioned(nn.Module):
    """Loads by its version, as torchvision's MNASNet does."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest) -> None:
        if local_metadata.get("version") != 2:
            raise ValueError("version should be 2 instead of None")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def test_modules_that_load_by_version_are_told_theirs() -> None:
    state = dict(Versioned().state_dict())
    with pytest.raises(ValueError, match="version"):
        Versioned().load_state_dict(state)
    for strict in (True, False):
        network = Versioned()
        load_state(network, state if strict else {"head.bias": state["head.bias"]}, strict)
        assert torch.equal(network.head.bias, state["head.bias"])
    assert fitted(("", state), network=Versioned()).names.keys() == state.keys()


class Extra(nn.Module):
    """State beside parameters and buffers."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self.head, self.value = nn.Linear(2, 2), value

    def get_extra_state(self) -> object:
        return self.value

    def set_extra_state(self, state: object) -> None:
        self.value = state


def test_extra_state_is_kept_where_it_is_a_tensor_and_refused_where_not(tmp_path: Path) -> None:
    save_file(Extra(torch.tensor([3])).state_dict(), tmp_path / "a.safetensors")
    network = Extra(torch.tensor([0]))
    fit_into(network, read(tmp_path / "a.safetensors", 10.0))
    assert torch.equal(network.value, torch.tensor([3]))
    with pytest.raises(InputError, match="Extra has state that is no tensor: _extra_state is a dict"):
        fit_into(Extra({"version": 3}), read(tmp_path / "a.safetensors", 10.0))
    torch.save(Extra({"version": 3}).state_dict(), tmp_path / "a.pt")
    with pytest.raises(InputError, match="has the unexpected _extra_state"):
        fit_into(nn.ModuleDict({"head": nn.Linear(2, 2)}), read(tmp_path / "a.pt", 10.0))


def test_what_the_network_itself_refuses_is_one_line() -> None:
    class Stubborn(Net):
        def _load_from_state_dict(self, *args) -> None:
            raise RuntimeError("not\nthis one")

    with pytest.raises(InputError, match=r"a\.pt does not load into the network: not this one"):
        fitted(("", STATE), network=Stubborn())


@pytest.mark.parametrize("name", ["x{}.weight", "weight.{}", "." * 5 + "{}", "{}.a" + ".weight" * 300])
def test_many_names_are_refused_in_little_time(name: str) -> None:
    state = {name.format(number): torch.zeros(1) for number in range(20_000)}
    begin = time.perf_counter()
    with pytest.raises(InputError):
        fitted(("", state), ("model", state))
    assert time.perf_counter() - begin < 10


def test_tied_weights_load_under_all_their_names(tmp_path: Path) -> None:
    layer = nn.Linear(3, 3)
    save_file(
        {name: tensor.clone() for name, tensor in nn.Sequential(layer, layer).state_dict().items()}, tmp_path / "a"
    )
    other = nn.Linear(3, 3)
    tied = nn.Sequential(other, other)
    assert len(fit_into(tied, read(tmp_path / "a", 10.0)).names) == 4
    tied.load_state_dict(load_file(tmp_path / "a"), strict=True)
    assert torch.equal(other.weight, layer.weight)

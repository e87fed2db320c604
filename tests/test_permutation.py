"""A network with permuted hidden units: the same function, elsewhere in weight space."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional

from mcr.app import composition
from mcr.architectures.normalization import Normalized
from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.store import build
from mcr.weightspace.permutation import permuted
from mcr.weightspace.symmetry import Symmetry

SHAPE = (3, 32, 32)
# The same blocks, fewer of them, and more units where they are few.
RESIZED = {
    "preresnet110": {"depth": 47},
    "preresnet164": {"depth": 56},
    "wrn28_10": {"depth": 10, "widen": 2},
    "vit_tiny": {"depth": 2, "width": 48},
    "enresnet20": {"noise": 0.0},  # noise that is the same for all images keeps the channels between blocks in place
    "tnn": {"units": 64},
    "tnn_leapfrog": {"units": 64},
}
FOLDER = Path(composition.conf_folder()) / "architecture"
# Those whose hidden units are understood: of an implicit layer's equation nothing is seen.
ZOO = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem not in ("imported", "nemon"))


def lively(network: nn.Module) -> nn.Module:
    """In float64, with no vector of equal values: what stays behind is seen."""
    torch.manual_seed(1)
    for name, tensor in network.double().state_dict().items():
        if not tensor.is_floating_point():
            tensor.fill_(7) if tensor.dim() == 0 else tensor.copy_(tensor.flip(0))
        elif name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
            tensor.uniform_(0.5, 1.5)
        elif tensor.dim() == 1 or not tensor.any():
            tensor.normal_(0, 0.3)
    return network


def with_weights(network: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    network.load_state_dict(state)
    return network


@functools.cache
def zoo(name: str) -> nn.Module:
    torch.manual_seed(0)
    config = yaml.safe_load((FOLDER / f"{name}.yaml").read_text()) | RESIZED.get(name, {})
    facts = {"num_classes": 10, "in_channels": 3, "image_size": SHAPE[1:]}
    return lively(Normalized(build.network(config, facts), [0.5, 0.4, 0.3], [0.2, 0.3, 0.25]))


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@functools.cache
def pair(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state dicts before and after."""
    before = weights(zoo(name))
    return before, permuted(zoo(name), SHAPE, generator(0, "test"))


def fingerprint(tensor: Tensor) -> list[int]:
    """Of the values in any order: wrapping power sums of their bits, which are quicker than to sort."""
    bits = tensor.flatten().view(torch.int64)
    return [int(power.sum()) for power in (bits, bits * bits, bits * bits * bits)]


@torch.no_grad()
def gap(network: nn.Module, before: dict[str, Tensor], after: dict[str, Tensor], shape: tuple[int, int, int]) -> float:
    images = torch.rand(4, *shape, dtype=torch.float64)
    expected = with_weights(network, before)(images)
    found = with_weights(network, after)(images)
    network.load_state_dict(before)
    assert expected.std() > 1e-3
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ZOO)
def test_the_copy_is_the_same_function(name: str, training: bool) -> None:
    assert gap(zoo(name).train(training), *pair(name), SHAPE) < 1e-9


@pytest.mark.parametrize("name", ZOO)
def test_the_copy_holds_the_same_values_at_other_places(name: str) -> None:
    before, after = pair(name)
    assert list(before) == list(after)
    for key, tensor in before.items():
        assert tensor.shape == after[key].shape
        assert tensor.dtype == after[key].dtype
        assert fingerprint(tensor) == fingerprint(after[key]), key
    # All but the biases of the logits move, and inside of attention the rows of its projection.
    stays = {key for key in before if before[key].dim() > 0 and torch.equal(before[key], after[key])}
    assert all(key.endswith((".bias", "in_proj_bias")) for key in stays)
    # None has biases in two_layer; a leapfrog step has one that all its units share.
    still = {"two_layer": 0, "tnn_leapfrog": 5}.get(name, 1)
    assert len([key for key in stays if not key.endswith("in_proj_bias")]) == still


@pytest.mark.parametrize("name", ZOO)
def test_the_copy_is_far_away(name: str) -> None:
    """Independent weights of mean 0 would be apart by sqrt(2) times their norm."""
    before, after = pair(name)
    keys = [key for key in before if before[key].dim() > 1]
    distance = sum(float((after[key] - before[key]).square().sum()) for key in keys) ** 0.5
    norm = sum(float(before[key].square().sum()) for key in keys) ** 0.5
    assert 1.3 < distance / norm < 1.5


def test_the_network_and_the_global_generator_stay_as_they_are() -> None:
    network = zoo("small_vgg").train()
    network.network.features[1].eval()
    before, modes = weights(network), [module.training for module in network.modules()]
    state = torch.random.get_rng_state()
    permuted(network, SHAPE, generator(0, "test"))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    assert not any(parameter.grad_fn or not parameter.requires_grad for parameter in network.parameters())


def test_the_generator_decides() -> None:
    first, again, other = (permuted(zoo("mlp"), SHAPE, generator(seed, "test")) for seed in (1, 1, 2))
    assert all(torch.equal(tensor, again[key]) for key, tensor in first.items())
    assert not torch.equal(first["network.layers.1.weight"], other["network.layers.1.weight"])
    bare = permuted(zoo("mlp").network, SHAPE, generator(1, "test"))
    assert all(torch.equal(tensor, first[f"network.{key}"]) for key, tensor in bare.items())


class Own(nn.Module):
    """A user's network: functional calls, two residual sums, pixels flattened into the last layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(2))
        self.norm = nn.BatchNorm2d(8)
        self.hidden = nn.Linear(8 * 4 * 4, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        for layer in self.body:
            x = x + torch.relu(self.norm(layer(x)))
        x = functional.max_pool2d(x, 2)
        x = functional.gelu(self.hidden(torch.flatten(x, 1)))
        return self.head(functional.dropout(x, 0.0, self.training))


class Around(nn.Module):
    """A function of features (B, 8, 8, 8) between two convolutions; it finds its layers here."""

    def __init__(self, function, channels: int = 8) -> None:
        super().__init__()
        self.function = function
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(channels, 6, 3)
        self.norm = nn.GroupNorm(2, 8)
        self.depthwise = nn.Conv2d(8, 16, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.rectifier = nn.PReLU(8)
        self.mix, self.last = nn.Linear(8, 8), nn.Linear(8, 8)
        self.layers = nn.LayerNorm([8, 8, 8])
        self.gamma = nn.Parameter(torch.randn(8, 1, 1))
        self.register_buffer("order", torch.arange(8))
        self.gain = nn.Parameter(torch.randn(1))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.batch = nn.BatchNorm2d(8)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3, padding=1))
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.function(self, self.first(x))).mean((2, 3)))


def attend(net: Around, x: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    mixed, _ = net.attention(tokens, value=tokens, key=tokens)
    return (tokens + mixed).transpose(1, 2).reshape(x.shape)


def attend_by_hand(net: Around, x: Tensor) -> Tensor:
    heads = net.mix(x.flatten(2).transpose(1, 2)).unflatten(2, (2, 4)).transpose(1, 2)
    mixed = functional.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2).flatten(2)
    return x + net.last(mixed).transpose(1, 2).reshape(x.shape)


def summarise(net: Around, x: Tensor) -> Tensor:
    summary = net.mix(x.mean((2, 3))).unsqueeze(1)
    tokens = torch.cat([summary, x.flatten(2).transpose(1, 2)], 1)
    return net.last(tokens)[:, 1:].transpose(1, 2).reshape(x.shape)


def by_hand(net: Around, x: Tensor) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    return net.gamma * centred / (centred.pow(2).mean(1, keepdim=True) + 1e-6).sqrt()


def batch_norm(net: Around, x: Tensor) -> Tensor:
    """As timm's layers do it."""
    layer = net.batch
    return functional.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, False, 0.1, 1e-5)


def windows(net: Around, x: Tensor) -> Tensor:
    """A shifted window of Swin, on padded images with channels last; the heads stay as they are."""
    x = torch.roll(functional.pad(x.permute(0, 2, 3, 1), (0, 0, 0, 2, 0, 2)), (-1, -1), (1, 2))
    tokens = functional.linear(x.reshape(len(x), 100, 8), net.mix.weight, net.mix.bias).unflatten(2, (2, 4))
    queries = functional.normalize(tokens.transpose(1, 2), dim=-1)
    weights = torch.softmax(queries @ queries.transpose(-2, -1), -1)
    mixed = net.last((weights @ queries).transpose(1, 2).flatten(2)).view(len(x), 10, 10, 8)
    return torch.roll(x + mixed, (1, 1), (1, 2))[:, :8, :8].permute(0, 3, 1, 2)


def mixer(net: Around, x: Tensor) -> Tensor:
    """Pixels of a row are mixed, then channels."""
    x = x + net.mix(x).relu() @ net.last.weight
    return x + functional.layer_norm(x.movedim(1, -1), (8,)).movedim(-1, 1)


def put_together(net: Around, x: Tensor) -> Tensor:
    whole = net.batch(x)
    whole[:, ::2] = x[:, ::2].relu()
    whole[:, 1::2] += x[:, 1::2]
    return x + whole.neg_()


KNOWN = {
    "functional batch norm": (batch_norm, 8),
    "functional group norm": (lambda net, x: functional.group_norm(x, 2, net.norm.weight, net.norm.bias), 8),
    "functional instance norm": (lambda net, x: functional.instance_norm(x, weight=net.batch.weight), 8),
    "functional layer norm": (
        lambda net, x: functional.layer_norm(
            x.movedim(1, -1), (8,), weight=net.batch.weight, bias=net.batch.bias
        ).movedim(-1, 1),
        8,
    ),
    "functional convolution": (
        lambda net, x: functional.conv2d(x, net.depthwise.weight, net.depthwise.bias, padding=1, groups=8),
        16,
    ),
    "product with a weight": (lambda net, x: (x.movedim(1, -1) @ net.mix.weight).movedim(-1, 1), 8),
    "product from the left": (lambda net, x: (net.mix.weight @ x.flatten(2)).view(x.shape), 8),
    "softmax over channels": (lambda net, x: x.softmax(1) * x + functional.log_softmax(x, dim=1), 8),
    "channels of length one": (lambda net, x: functional.normalize(x), 8),
    "hard gates": (lambda net, x: functional.hardswish(x) * functional.hardsigmoid(x.mean((2, 3), keepdim=True)), 8),
    "ghost features": (lambda net, x: torch.cat([x, net.depthwise(x)], 1)[:, :20], 20),
    "channel shuffle": (lambda net, x: functional.channel_shuffle(net.depthwise(x), 4), 16),
    "channels in another order": (lambda net, x: x + torch.roll(net.depthwise(x)[:, ::2], 2, dims=1), 8),
    "windows": (windows, 8),
    "mixer": (mixer, 8),
    "encoder layer": (lambda net, x: net.encoder(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape), 8),
    "parts put together": (put_together, 8),
    "parts that go different ways": (lambda net, x: torch.cat([x[:, :4].relu(), x[:, 4:]], 1), 8),
    "shapes decide": (lambda net, x: x.relu() if x.shape[-1] % 2 == 0 else x.cumsum(1), 8),
    "concatenation": (lambda net, x: torch.cat([x, net.depthwise(x)], 1), 24),
    "halves": (lambda net, x: x.chunk(2, dim=1)[0] * x[:, 4:].sigmoid(), 4),
    "padded shortcut": (lambda net, x: functional.pad(x, (1, 1, 1, 1, 2, 2)), 12),
    "squeeze and excite": (lambda net, x: x * torch.sigmoid(net.mix(x.mean((2, 3))))[:, :, None, None], 8),
    "scales": (lambda net, x: net.gamma * x + net.gain, 8),
    "spatial mask": (lambda net, x: x * x.amax(1, keepdim=True).sigmoid(), 8),
    "weights of pixels": (lambda net, x: x * net.mix.weight, 8),
    "another order": (lambda net, x: x[:, net.order] * x, 8),
    "mean of a half": (lambda net, x: x - x[:, :4].mean(1, keepdim=True), 8),
    "group norm": (lambda net, x: net.rectifier(net.norm(x)), 8),
    "layer norm of all": (lambda net, x: net.layers(x), 8),
    "layer norm by hand": (by_hand, 8),
    "grouped convolution": (lambda net, x: net.grouped(net.mix(x.movedim(1, -1)).movedim(-1, 1)), 8),
    "shared layer": (lambda net, x: net.mix(net.mix(x.movedim(1, -1)).relu()).movedim(-1, 1), 8),
    "attention": (attend, 8),
    "attention by hand": (attend_by_hand, 8),
    "tokens of two kinds": (summarise, 8),
    "upsampling": (lambda net, x: functional.interpolate(x, scale_factor=2, mode="bilinear"), 8),
}


@pytest.mark.parametrize("training", [False, True])
def test_a_user_s_own_network(training: bool) -> None:
    network = lively(Own())
    before, after = weights(network), permuted(network, (3, 8, 8), generator(0, "test"))
    network.train(training)
    with torch.no_grad():
        images = torch.rand(4, 3, 8, 8, dtype=torch.float64)
        features = [with_weights(network, state).stem(images) for state in (before, after)]
    assert not torch.equal(*features)
    assert gap(network, before, after, (3, 8, 8)) < 1e-9


@pytest.mark.parametrize("name", KNOWN)
def test_layers_and_operations_that_are_known(name: str) -> None:
    network = lively(Around(*KNOWN[name]))
    before = weights(network)
    after = permuted(network, (3, 8, 8), generator(0, "test"))
    assert gap(network, before, after, (3, 8, 8)) < 1e-9
    assert not torch.equal(before["first.weight"], after["first.weight"])


def test_tied_weights_stay_tied() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    network.append(nn.Linear(6, 3))
    network[5].weight = network[3].weight
    before = weights(lively(network))
    after = permuted(network, (3, 2, 2), generator(0, "test"))
    assert torch.equal(after["3.weight"], after["5.weight"])
    assert not torch.equal(after["3.weight"], before["3.weight"])
    assert gap(network, before, after, (3, 2, 2)) < 1e-9


def test_the_check_of_the_copy_bears_the_rounding_of_the_network_s_type() -> None:
    network = zoo("preresnet26")
    for dtype in (torch.float32, torch.bfloat16):
        state = permuted(copy.deepcopy(network).to(dtype), SHAPE, generator(0, "test"))
        assert state["network.classifier.weight"].dtype == dtype


def branching(net: Around, x: Tensor) -> Tensor:
    return x.relu() if x.sum() > 0 else x


# What goes into these stays in place, and what comes out; units elsewhere move.
HELD = {
    "cumsum": lambda net, x: torch.cumsum(x, 1),
    "einsum": lambda net, x: torch.einsum("bchw,dc->bdhw", x, net.mix.weight),
    "weightnorm, conv2d": lambda net, x: net.normed(x),
    "sort": lambda net, x: x.sort(1)[0] * net.gain,
    "pixelshuffle": lambda net, x: functional.pixel_shuffle(x, 2).repeat(1, 4, 1, 1),
    "matmul": lambda net, x: (x.flatten(2) @ x.flatten(2).mT)[:, :, None].expand(-1, -1, 8, -1),
    "": lambda net, x: net.mix(x) * net.mix.weight,
}


@pytest.mark.parametrize("names", HELD)
def test_what_goes_into_a_function_of_no_known_kind_stays_in_place(names: str) -> None:
    network = lively(Around(HELD[names]))
    before = weights(network)
    after = permuted(network, (3, 8, 8), generator(0, "test"))
    assert gap(network, before, after, (3, 8, 8)) < 1e-9
    assert torch.equal(before["first.weight"], after["first.weight"]) == (names != "")
    assert not torch.equal(before["second.weight"], after["second.weight"])
    symmetry = Symmetry(network.eval())
    with torch.no_grad():
        symmetry.run(torch.zeros(2, 3, 8, 8, dtype=torch.float64))
    assert ", ".join(symmetry.held) == names


def unseen(x: Tensor) -> Tensor:
    """Torch shows nobody what this calls, as with compiled code."""
    with torch._C.DisableTorchFunction():
        return x.cumsum(1)


def half_unseen(x: Tensor, _: int = 1) -> Tensor:
    return torch.cat([unseen(x)[:, :4], x[:, 4:]], 1)


class Cumulated(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, 1)


REFUSED = {
    r"looks at a value \(item\): other images may go another way": lambda net, x: x * x[0, 0, 0, 0].item(),
    r"looks at a value \(bool\): other images": branching,
    "units permuted it gives other logits, by": lambda net, x: functional.dropout(x, 0.9, training=True),
    "it gives other logits, by": lambda net, x: half_unseen(x),
    "its logits are computed by functions that torch does not see": lambda net, x: unseen(x),
    "its forward pass fails while it is looked at: 'nothing here'": lambda net, x: {}["nothing here"],
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_followed_is_refused_in_one_line(line: str) -> None:
    with pytest.raises(InputError, match=line) as caught:
        permuted(lively(Around(REFUSED[line])), (3, 8, 8), generator(0, "test"))
    assert str(caught.value).startswith("the hidden units of this network cannot change places: ")
    assert "\n" not in str(caught.value)
    assert "two models" in str(caught.value)


def test_the_units_of_an_implicit_layer_are_refused() -> None:
    with pytest.raises(InputError, match="the hidden units of this network cannot change places: "):
        permuted(zoo("nemon"), SHAPE, generator(0, "test"))


def test_what_keeps_all_units_in_place_is_named_and_a_near_copy_is_warned_of(caplog) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), Cumulated(torch.cumsum), nn.Flatten(), nn.Linear(32, 3))
    with pytest.raises(InputError, match=r"no two hidden units that could change places \(cumsum keep"):
        permuted(network, (3, 4, 4), generator(0, "test"))
    small = (nn.Linear(256, 2), nn.ReLU(), nn.Linear(2, 3))
    network = nn.Sequential(nn.Conv2d(3, 64, 3), Cumulated(torch.cumsum), nn.Flatten(), *small)
    permuted(network, (3, 4, 4), generator(0, "test"))
    assert "of its weights' norm away, where 1.41 is usual: cumsum keep units in their order" in caplog.text
    caplog.clear()
    permuted(zoo("mlp"), SHAPE, generator(0, "test"))
    assert not caplog.text


@pytest.mark.parametrize("zero", ["head", "branch"])
def test_what_begins_with_zeros_hides_nothing(zero: str) -> None:
    """As in a vision transformer and in a residual network of torchvision before they are trained."""
    network = Own()
    layer = network.head if zero == "head" else network.norm
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    after = permuted(network, (3, 8, 8), generator(0, "test"))
    assert not after["head.weight" if zero == "head" else "norm.weight"].any()
    assert not torch.equal(network.hidden.weight, after["hidden.weight"])
    wrong = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), Cumulated(half_unseen), nn.Linear(8, 3))
    if zero == "head":
        nn.init.zeros_(wrong[-1].weight)
    with pytest.raises(InputError, match="other logits"):
        permuted(wrong, (3, 4, 4), generator(0, "test"))


def test_a_network_without_hidden_units_is_refused() -> None:
    for network in (nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten())):
        with pytest.raises(InputError, match="no two hidden units"):
            permuted(network, (3, 2, 2), generator(0, "test"))


@pytest.mark.parametrize("width", [2, 3])
def test_no_unit_of_a_small_layer_stays_for_any_seed(width: int) -> None:
    """One cycle: a random order of two or three units would leave one in its place half of the time or more."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))
    for seed in range(20):
        rows = permuted(network, (1, 2, 2), generator(seed, "test"))["1.weight"]
        assert not any(torch.equal(new, old) for new, old in zip(rows, network[1].weight, strict=True))

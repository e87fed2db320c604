"""Laws of EnResNet: without noise it is a known network, and with noise an image's logits are its own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from mcr.architectures.enresnet import EnResNet, NoisyBlock
from mcr.architectures.normalization import Normalized
from mcr.architectures.wrn import WideResNet
from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.stages import trial
from mcr.stages.artifacts import DataSpec
from mcr.weightspace.permutation import permuted

SHAPE = (2, 6, 5)
IMAGES = torch.rand(5, *SHAPE, dtype=torch.float64, generator=generator(0, "images"))


def make(weights: int = 0, **changes: Any) -> EnResNet:
    """In float64 and evaluation mode, no vector of its weights being of equal values."""
    usual = {"width": 2, "copies": 1, "noise": 0.3, "draws": 1, "seed": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights)
        network = EnResNet(**(usual | changes), num_classes=3, in_channels=SHAPE[0], image_size=SHAPE[1:]).double()
        for name, tensor in network.state_dict().items():
            if tensor.dim() == 1:
                tensor.uniform_(0.5, 1.5) if name.endswith(("running_var", "weight")) else tensor.normal_(0, 0.3)
    return network.eval()


def published(network: EnResNet, images: Tensor, noisy: bool = True) -> Tensor:
    """The published network, written out, with one draw and the deviation of the image alone."""

    def normed(x: Tensor, name: str) -> Tensor:
        mean, variance, scale, shift = (
            state[f"{name}.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (variance + 1e-5).sqrt() * scale + shift).clamp_min(0)

    state, banks = network.state_dict(), dict(network.named_buffers())
    votes = []
    for number in range(len(network.copies)):
        features = f"copies.{number}.features"
        x = functional.conv2d(images, state[f"{features}.0.weight"], padding=1)
        for block in (f"{features}.{index}" for index in range(1, 10)):
            active = normed(x, f"{block}.activate.0")
            stride = 2 if block[-1] in "47" else 1
            kernel = state.get(f"{block}.projection.weight")
            shortcut = x if kernel is None else functional.conv2d(active, kernel, stride=stride)
            inner = functional.conv2d(active, state[f"{block}.layers.0.weight"], stride=stride, padding=1)
            x = shortcut + functional.conv2d(
                normed(inner, f"{block}.layers.1"), state[f"{block}.layers.4.weight"], padding=1
            )
            if noisy:
                added = [y.std() * banks[f"{block}.bank"][0] for y in x]
                x = x + network.copies[number].features[1].noise * torch.stack(added)
        pooled = normed(x, f"{features}.10").mean((2, 3))
        votes.append(pooled @ state[f"copies.{number}.classifier.weight"].T + state[f"copies.{number}.classifier.bias"])
    return sum(votes) / len(votes)


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_it_is_the_published_network_with_the_deviation_of_each_image(copies: int, noise: float) -> None:
    network = make(copies=copies, noise=noise)
    torch.testing.assert_close(network(IMAGES), published(network, IMAGES))
    gap = network(IMAGES) - published(network, IMAGES, noisy=False)
    assert (gap.abs().min() > 1e-3) == (noise > 0)  # at test time too: the published option for that is never read


@pytest.mark.parametrize("training", [False, True])
def test_without_noise_one_copy_is_a_known_residual_network(training: bool) -> None:
    network, twin = make(width=16, noise=0.0, draws=4).train(training), WideResNet(22, 1, 0.0, 3, 2).double()
    twin.load_state_dict(network.copies[0].state_dict())
    assert torch.equal(network(IMAGES), twin.train(training)(IMAGES))


def test_the_mean_over_draws_of_a_linear_network_is_the_one_without_noise() -> None:
    network, still = make(draws=2000), make(noise=0.0)
    for module in (*network.modules(), *still.modules()):
        for name, layer in module.named_children():
            if isinstance(layer, (nn.ReLU, nn.BatchNorm2d)):
                setattr(module, name, nn.Identity())
    image = IMAGES[:1]
    votes = network.copies[0](image.repeat_interleave(2000, 0)).detach()
    error = votes.std(0) / 2000**0.5
    assert (votes.std(0) > 0.1 * still(image)[0].abs()).all()
    assert ((votes.mean(0) - still(image)[0]).abs() < 4 * error).all()
    torch.testing.assert_close(network(image)[0], votes.mean(0))


@pytest.mark.parametrize("draws", [1, 3])
def test_the_logits_of_an_image_do_not_depend_on_the_batch(draws: int) -> None:
    network = make(copies=2, draws=draws)
    together = network(IMAGES)
    torch.testing.assert_close(torch.cat([network(IMAGES[:2]), network(IMAGES[2:])]), together)
    beside = torch.cat([IMAGES[4:], 100 * IMAGES[:2]])
    torch.testing.assert_close(network(beside)[:1], together[4:])
    torch.testing.assert_close(network(IMAGES.flip(0)), together.flip(0))


@pytest.mark.parametrize("training", [False, True])
def test_the_noise_of_an_image_is_that_of_its_own_size_beside_large_ones(training: bool) -> None:
    """The deviation of the whole batch, as published, would give the small image seven times its share."""
    torch.manual_seed(0)
    block = NoisyBlock(8, 8, 1, 0.1, torch.randn(1, 8, 16, 16)).eval()
    features = torch.randn(4, 8, 16, 16) * torch.tensor([1.0, 10.0, 10.0, 10.0]).view(-1, 1, 1, 1)
    plain = super(NoisyBlock, block).forward(features)
    block.training = training  # of BatchNorm the statistics stay
    added = (block(features) - plain).detach()
    for noise, image in zip(added, plain.detach(), strict=True):
        assert float(noise.std() / image.std()) == pytest.approx(0.1, rel=0.06)


def test_the_gradient_of_several_draws_is_the_mean_of_theirs() -> None:
    """An attack on the network is one on the mean over its noise."""
    network = make(draws=3)

    def slope() -> Tensor:
        leaf = IMAGES.clone().requires_grad_()
        return torch.autograd.grad((network(leaf) * torch.arange(3)).sum(), leaf)[0]

    together, alone = slope(), []
    banks = {block: block.bank for block in network.modules() if isinstance(block, NoisyBlock)}
    network.draws = 1
    for draw in range(3):
        for block, bank in banks.items():
            block.bank = bank[draw : draw + 1]
        alone.append(slope())
    torch.testing.assert_close(together, torch.stack(alone).mean(0))
    assert (alone[0] - alone[1]).norm() > 0.01 * alone[0].norm()


def test_noise_is_fixed_at_test_time_and_new_at_every_step() -> None:
    network, other = make(copies=2), make(weights=1, copies=2)
    state = torch.get_rng_state()
    assert torch.equal(network(IMAGES), network(IMAGES))
    assert torch.equal(torch.get_rng_state(), state)
    first, second = (copy.features[1].bank for copy in network.copies)
    assert not torch.equal(first, second)
    assert torch.equal(first, other.copies[0].features[1].bank)  # one noise for all networks of a path
    reseeded = make(copies=2, seed=1)
    reseeded.load_state_dict(network.state_dict())
    assert (network(IMAGES) - reseeded(IMAGES)).abs().min() > 1e-3
    network.train()
    torch.manual_seed(0)
    one, two = network(IMAGES), network(IMAGES)
    torch.manual_seed(0)
    assert torch.equal(network(IMAGES), one)
    assert (one - two).abs().min() > 1e-4


def test_copies_files_and_functional_calls_keep_the_noise_which_is_no_weight(tmp_path: Path) -> None:
    network, other = make(), make(weights=1)
    assert not any(key.endswith("bank") for key in network.state_dict())
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    called = torch.func.functional_call(other, network.state_dict(), (IMAGES,))
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    for found in (called, other(IMAGES), copy.deepcopy(network)(IMAGES)):
        assert torch.equal(found, network(IMAGES))


def test_a_trial_finds_nothing_wrong_with_it() -> None:
    spec = DataSpec(("a", "b", "c"), SHAPE[0], SHAPE[1:], [0.5] * 2, [0.2] * 2, {}, (), ())
    model = Normalized(make(draws=2).float(), [0.5] * 2, [0.2] * 2)
    trial.refuse_unusable(model, spec, "enresnet20")
    assert trial.warned(model, spec, "enresnet20", "train") == []


def test_hidden_units_inside_of_blocks_may_change_places() -> None:
    """Between blocks the noise, which is the same for all images, keeps the channels apart."""
    network = make()
    state = permuted(network, SHAPE, generator(0, "test"))
    moved = {key.partition("features.")[2] for key in state if not torch.equal(state[key], network.state_dict()[key])}
    inside = ("layers.0.weight", "layers.1.weight", "layers.1.bias", "layers.1.running_mean", "layers.1.running_var")
    assert moved == {f"{block}.{key}" for block in range(1, 10) for key in (*inside, "layers.4.weight")}
    twin = make(weights=1)
    twin.load_state_dict(state)
    torch.testing.assert_close(twin(IMAGES), network(IMAGES))


@pytest.mark.parametrize("wrong", [{"width": 0}, {"copies": 0}, {"draws": 0}, {"noise": -0.1}, {"noise": float("nan")}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="architecture=enresnet20"):
        make(**wrong)

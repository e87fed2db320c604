"""Networks against known parameter counts and an independent implementation; schedules against their shapes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorchcv.model_provider import get_model
from torch import nn

from mcr.architectures.mlp import Mlp
from mcr.architectures.normalization import Normalized, fixed, from_dataset
from mcr.architectures.preresnet import PreResNet
from mcr.architectures.resnet import ResNet18
from mcr.architectures.tnn import Tnn
from mcr.architectures.vgg import Vgg
from mcr.architectures.vit import VitTiny
from mcr.architectures.wrn import WideResNet
from mcr.errors import InputError
from mcr.schedules.cosine import Cosine
from mcr.schedules.flat_linear_flat import FlatLinearFlat
from mcr.schedules.one_cycle import OneCycle
from mcr.schedules.step import Step


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_paper_s_networks_have_their_published_size() -> None:
    """Counts of the code of Zhao et al. (2020): VGG16 with 32 tensors, PreResNet of depth 26 with 79."""
    vgg = Vgg(16, "none", 0.0, 10, 3)
    assert (size(vgg), len(list(vgg.parameters()))) == (15_245_130, 32)
    preresnet = PreResNet(26, 10, 3)
    assert (size(preresnet), len(list(preresnet.parameters()))) == (369_498, 79)
    convolutions = [m for m in Vgg(16, "batch", 0.0, 10, 3).modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in Vgg(16, "batch", 0.0, 10, 3).modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(convolutions) == len(norms) == 13
    assert len([m for m in Vgg(19, "none", 0.0, 10, 3).modules() if isinstance(m, nn.Conv2d)]) == 16
    assert size(ResNet18(10, 3)) == 11_173_962


@pytest.mark.parametrize(
    ("network", "peer"),
    [
        (lambda: PreResNet(164, 10, 3), "preresnet164bn_cifar10"),
        (lambda: WideResNet(28, 10, 0.0, 10, 3), "wrn28_10_cifar10"),
    ],
)
def test_size_close_to_an_independent_implementation(network, peer) -> None:
    """Within a tenth of a percent: the forms differ in where a first BatchNorm or a bias sits."""
    assert size(network()) == pytest.approx(size(get_model(peer)), rel=2e-3)


@pytest.mark.parametrize(
    "network",
    [
        lambda d, s: Mlp([8], 5, d, s),
        lambda d, s: Vgg(16, "batch", 0.0, 5, d),
        lambda d, s: PreResNet(8, 5, d),
        lambda d, s: ResNet18(5, d),
        lambda d, s: WideResNet(10, 1, 0.0, 5, d),
        lambda d, s: VitTiny(4, 1, 12, 3, 0.0, 5, d, s),
        lambda d, s: Tnn("leapfrog", 4, 2, 0.1, 5, d, s),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [32, 40])
def test_grey_and_colour_of_any_size(network, channels: int, side: int) -> None:
    logits = network(channels, (side, side)).eval()(torch.rand(2, channels, side, side))
    assert logits.shape == (2, 5)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Vgg(13, "none", 0.0, 10, 3),
        lambda: Vgg(16, "group", 0.0, 10, 3),
        lambda: PreResNet(27, 10, 3),
        lambda: WideResNet(27, 1, 0.0, 10, 3),
        lambda: VitTiny(5, 1, 12, 3, 0.0, 10, 3, (32, 32)),
    ],
)
def test_impossible_shapes_are_refused(wrong) -> None:
    with pytest.raises(InputError):
        wrong()


def test_normalisation_is_the_first_layer_and_no_weight() -> None:
    network = Normalized(nn.Flatten(), [0.5, 0.25], [0.5, 0.125])
    images = torch.rand(2, 2, 3, 3)
    expected = (images - torch.tensor([0.5, 0.25]).view(1, 2, 1, 1)) / torch.tensor([0.5, 0.125]).view(1, 2, 1, 1)
    assert torch.equal(network(images), expected.flatten(1))
    assert network.state_dict() == {}
    statistics = ([0.1, 0.2], [0.3, 0.4])
    assert from_dataset(statistics) == statistics
    assert fixed(0.5, [1.0, 2.0], statistics) == ([0.5, 0.5], [1.0, 2.0])
    with pytest.raises(InputError, match="3 values for 2 channels"):
        fixed(0.0, [1.0, 1.0, 1.0], statistics)
    with pytest.raises(InputError, match="above 0"):
        fixed(0.0, 0.0, statistics)


SCHEDULES = [FlatLinearFlat(0.5, 0.9, 0.01), Cosine(0.1), Step([0.3, 0.6], 0.1), OneCycle(0.3)]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@given(progress=st.floats(0, 1))
def test_factors_stay_between_zero_and_the_full_rate(schedule, progress: float) -> None:
    assert 0 <= schedule.factor(progress) <= 1 + 1e-12


def test_schedules_pass_their_corners() -> None:
    flat, cosine, step, cycle = SCHEDULES
    assert [flat.factor(p) for p in (0, 0.5, 0.9, 1)] == pytest.approx([1, 1, 0.01, 0.01])
    assert flat.factor(0.7) == pytest.approx((1 + 0.01) / 2)
    assert [cosine.factor(p) for p in (0, 0.5, 1)] == pytest.approx([1, 0.55, 0.1])
    assert [step.factor(p) for p in (0.2, 0.3, 0.7)] == pytest.approx([1, 0.1, 0.01])
    assert [cycle.factor(p) for p in (0, 0.3, 1)] == pytest.approx([0, 1, 0])
    for wrong in (lambda: FlatLinearFlat(0.9, 0.5, 0), lambda: Cosine(2), lambda: Step([2], 0.1), lambda: OneCycle(1)):
        with pytest.raises(InputError):
            wrong()

"""What is found out about a network before its training: faults of its forward pass, words for its constructor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mcr.errors import InputError
from mcr.stages import model, trial
from mcr.stages.artifacts import DataSpec
from tests.conftest import TINY

NORMALIZATION = {"_target_": "mcr.architectures.normalization.from_dataset"}


def spec(channels: int = 1, side: int = 8, classes: int = 5) -> DataSpec:
    return DataSpec(
        tuple("abcdefghij"[:classes]), channels, (side, side), [0.5] * channels, [0.3] * channels, {}, (), ()
    )


def made(target: str, facts: DataSpec, **arguments: Any) -> nn.Module:
    architecture = {"_target_": target if "." in target else f"{__name__}.{target}", **arguments}
    return model.make({"architecture": architecture, "normalization": NORMALIZATION}, facts, "seed")


class Sound(nn.Module):
    """Two layers with a function between them, which the others change."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Linear(16, num_classes)
        self.gain = nn.Parameter(torch.ones(16))

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.between(self.norm(self.first(images.flatten(1))) * self.gain))

    def between(self, x: Tensor) -> Tensor:
        return x.relu()


class NumpyInside(Sound):
    def between(self, x: Tensor) -> Tensor:
        return torch.from_numpy(np.tanh(x.numpy()))


class DetachedNumpy(Sound):
    def between(self, x: Tensor) -> Tensor:
        return torch.from_numpy(np.tanh(x.detach().numpy()))


class Detached(Sound):
    def between(self, x: Tensor) -> Tensor:
        return x.data


class FrozenByNoGrad(Sound):
    def between(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.norm(x)


class AlwaysDropout(Sound):
    def between(self, x: Tensor) -> Tensor:
        return functional.dropout(x, 0.5)


class DropoutForNonZero(Sound):
    """An image of zeros would hide it."""

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.norm(self.first(functional.dropout((images * 0.3 + 0.5).flatten(1), 0.5))))


class Ends(Sound):
    def between(self, x: Tensor) -> Tensor:
        raise SystemExit(4)


class Keyless(Sound):
    def between(self, x: Tensor) -> Tensor:
        return {}["key"]


class BrokenInPlace(Sound):
    def between(self, x: Tensor) -> Tensor:
        y = x.exp()
        y += 1
        return y


class Sqrt(Sound):
    def between(self, x: Tensor) -> Tensor:
        return x.sqrt()


class AllFrozen(Sound):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.requires_grad_(False)


class Probabilities(Sound):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).softmax(1)


class LogProbabilities(Sound):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).log_softmax(1)


class Spare(Sound):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.spare = nn.Linear(4, 4)


class ByData(Sound):
    def between(self, x: Tensor) -> Tensor:
        return x * self.last.weight.data[0] + self.last.bias.detach().mean()


class OwnGain(Sound):
    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.first(images.flatten(1)) * self.gain.data)


class Skips(Sound):
    """Half of the time in training the gain is left out."""

    def between(self, x: Tensor) -> Tensor:
        return x * self.gain if not self.training or torch.rand(()) < 0.5 else x

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.between(self.norm(self.first(images.flatten(1)))))


class Counts(Sound):
    """Its buffer counts what it has seen, and freezes a part of it."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.register_buffer("seen", torch.tensor(0.0))
        self.gain.requires_grad_(False)

    def between(self, x: Tensor) -> Tensor:
        self.seen += 1
        return x.relu() * self.seen


class Zeros(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.tanh()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return torch.zeros_like(gradient)


class StraightThrough(torch.autograd.Function):
    """Rounding to quarters, its gradient that of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (4 * x).round() / 4

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class ZeroBackward(Sound):
    def between(self, x: Tensor) -> Tensor:
        return Zeros.apply(x)


class ZeroBranch(Sound):
    """What attacks see is a tenth of what the network does."""

    def between(self, x: Tensor) -> Tensor:
        return 0.1 * x + Zeros.apply(x)


class HalfDetached(Sound):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(torch.cat([images[..., :4].detach(), images[..., 4:]], -1))


class Rounded(Sound):
    """Images of few grey values: the gradient of rounding is zero, and true."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward((4 * images).round() / 4)


class RoundedStraight(Sound):
    def between(self, x: Tensor) -> Tensor:
        return StraightThrough.apply(x).relu()


class RoundedImages(Sound):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(StraightThrough.apply(images))


class SingleOnly(Sound):
    """Its kernel knows float32 alone."""

    def between(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise RuntimeError("expected scalar type Float")
        return x.relu()


class SingleOnlyZeros(SingleOnly):
    def between(self, x: Tensor) -> Tensor:
        return super().between(x) * 0.1 + Zeros.apply(x)


class Dead(Sound):
    """All units are off: no gradient, and nothing that changes."""

    def between(self, x: Tensor) -> Tensor:
        return (x - 100).relu()


class Dropped(Sound):
    def between(self, x: Tensor) -> Tensor:
        return functional.dropout(x.relu(), 0.5, self.training)


UNUSABLE = {
    "NumpyInside": r"cannot be attacked or trained: Can't call numpy\(\) on Tensor that requires grad\..*; its",
    "DetachedNumpy": "no gradient reaches the image; its forward pass must not leave autograd",
    "Detached": "no gradient reaches the image; its forward",
    "FrozenByNoGrad": "no gradient reaches the image; .* requires_grad_",
    "AlwaysDropout": "gives other logits for the same images in evaluation mode, by",
    "DropoutForNonZero": "gives other logits for the same images in evaluation mode, by",
    "Ends": r"cannot take images 1x8x8: it ends the program with SystemExit\(4\)",
    "Keyless": "cannot take images 1x8x8: KeyError 'key'",
    "ZeroBackward": "attacked or trained: its gradient in the image is zero, though .* nor have a false backward",
    "BrokenInPlace": "cannot be attacked or trained: one of the variables needed for gradient computation has been",
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_network_that_cannot_be_used_is_refused_when_it_is_made(name: str) -> None:
    with pytest.raises(InputError, match=UNUSABLE[name]) as caught:
        made(name, spec())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [("Sqrt", "is not finite"), ("AllFrozen", "no gradient reaches any parameter")],
)
def test_a_network_that_cannot_be_trained_is_refused_before_its_training(name: str, words: str, make) -> None:
    found = made(name, spec())  # weights of a file might be better
    with pytest.raises(InputError, match=rf"{name} cannot be trained: .*{words}"):
        trial.refuse_untrainable(found, spec(), name)
    usual = [word for word in TINY if not word.startswith("architecture")]
    with pytest.raises(InputError, match=words):
        make(*usual, f"architecture._target_={__name__}.{name}", goal="train", tiny=False)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Sound", []),
        ("LogProbabilities", []),
        ("Skips", []),
        ("Counts", []),
        ("Probabilities", ["answers with probabilities"]),
        ("Spare", ["no gradient reaches spare.weight and 1 more parameters of Spare: unused, or used outside"]),
        ("OwnGain", ["no gradient reaches gain and 2 more parameters"]),  # and the norm that it does not use
        ("ByData", []),
        ("Dropped", []),
        ("Dead", []),
        ("SingleOnly", []),
        ("RoundedStraight", []),
        ("RoundedImages", []),
        ("ZeroBranch", ["is not the slope of its logits"]),
        ("HalfDetached", ["is not the slope of its logits"]),
        ("SingleOnlyZeros", ["is not the slope of its logits"]),
        ("Rounded", ["is zero, its logits change in steps"]),
    ],
)
def test_what_may_be_meant_is_warned_of(name: str, words: list[str], caplog) -> None:
    found = made(name, spec())
    if name == "OwnGain":
        assert sum("norm" in key for key, _ in found.named_parameters()) == 2
    trial.refuse_untrainable(found, spec(), name)
    lines = trial.warned(found, spec(), name, "train end")
    assert len(lines) == len(words)
    assert all(part in line and line in caplog.text for part, line in zip(words, lines, strict=True))


class SlowStatistics(Sound):
    """As torchvision's MnasNet, whose BatchNorm is made for a training of a million steps."""

    def __init__(self, num_classes: int, momentum: float | None = 3e-4) -> None:
        super().__init__(num_classes)
        self.norm.momentum = momentum


@pytest.mark.parametrize(
    ("momentum", "steps", "left"),
    [(3e-4, 1170, 70), (3e-4, 7600, 10), (0.01, 100, 37), (0.01, 230, None), (0.1, 1, None), (None, 1, None)],
)
def test_statistics_that_lag_behind_a_training_are_warned_of(momentum, steps: int, left: int | None, caplog) -> None:
    found = made("SlowStatistics", spec(), momentum=momentum)
    lines = trial.warned(found, spec(), "net", "train end", steps)
    assert len(lines) == (left is not None)
    assert all(f"after {steps} steps {left} % of its running statistics" in line for line in lines)
    assert all(line in caplog.text for line in lines)
    assert trial.warned(found, spec(), "net", "load end") == []
    running = nn.BatchNorm1d(1, momentum=momentum)
    for _ in range(steps):
        running(torch.tensor([[4.0], [6.0]]))
    kept = 100 * (1 - float(running.running_mean) / 5)
    assert kept == pytest.approx(left, abs=0.5) if left is not None else kept <= 100 * max(trial.STALE, 0.9**steps)


def test_a_report_says_that_the_statistics_lag_behind(make) -> None:
    usual = [word for word in TINY if not word.startswith("architecture")]
    target = f"architecture._target_={__name__}.SlowStatistics"
    words = ("training.epochs=3", "evaluation.hessian_images=0", "probes.stronger.images=0")
    folders = make(*usual, *words, target, "+edit@endpoints.end.edits.later=tune", tiny=False)
    warned = json.loads((folders["report"][0] / "summary.json").read_text())["warnings"]
    (line,) = [line for line in warned if "of its running statistics" in line]
    # Three epochs of 32 images in batches of 16; the tuning that follows begins from statistics that were trained.
    assert "has momentum 0.0003: after 6 steps 100 % of its" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x1_0", "densenet121", "swin_t", "convnext_tiny"]
)
def test_networks_of_a_zoo_have_the_gradient_of_their_logits(name: str) -> None:
    found = made(f"torchvision.models.{name}", spec(3, 64))
    assert trial.warned(found, spec(3, 64), name, "load end") == []


def test_a_trial_changes_nothing() -> None:
    torch.manual_seed(0)
    found = made("Counts", spec()).train()
    found.network.norm.eval()
    modes, state = [module.training for module in found.modules()], torch.random.get_rng_state()
    before = {name: tensor.clone() for name, tensor in found.state_dict().items()}
    trial.refuse_unusable(found, spec(), "Counts")
    trial.refuse_untrainable(found, spec(), "Counts")
    trial.warned(found, spec(), "Counts", "train end")
    assert [module.training for module in found.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in found.state_dict().items())
    assert all(parameter.grad is None for parameter in found.parameters())


def test_a_report_says_that_the_network_answers_with_probabilities(make) -> None:
    usual = [word for word in TINY if not word.startswith("architecture")]
    words = ("training.min_accuracy_over_chance=0", "evaluation.hessian_images=0", "probes.stronger.images=0")
    made = make(*usual, *words, f"architecture._target_={__name__}.Probabilities", tiny=False)
    report = made["report"][0]
    warned = json.loads((report / "summary.json").read_text())["warnings"]
    assert len([line for line in warned if "answers with probabilities" in line]) == 1
    assert "> **Warning:** tests.test_trial.Probabilities answers with" in Path(report / "report.md").read_text()


def test_so_does_a_report_on_two_networks_from_files_between_which_nothing_is_fitted(make, tmp_path: Path) -> None:
    target = "architecture._target_=tests.test_trial.Probabilities"
    words = [word for word in TINY if not word.startswith("architecture")] + [target, "training.epochs=1"]
    trained = make(*words, goal="train", tiny=False)
    given = [
        word
        for name in ("start", "end")
        for word in (
            f"endpoint@endpoints.{name}=checkpoint",
            f"endpoints.{name}.path={trained[f'train {name}'][0] / 'network.safetensors'}",
        )
    ]
    report = make(*words, *given, "curve=linear", tiny=False)["report"][0]
    warned = json.loads((report / "summary.json").read_text())["warnings"]
    assert len([line for line in warned if "answers with probabilities" in line]) == 1


# Constructors that do not say what they take


class Inner(nn.Module):
    """Fits one number of channels, one side and one number of classes."""

    def __init__(self, planes: int, side: int, answers: int) -> None:
        super().__init__()
        self.side = side
        self.layers = nn.Sequential(nn.Conv2d(planes, 2, 3), nn.Flatten(), nn.LazyLinear(answers))

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2] != self.side:
            raise AssertionError(f"Input height ({images.shape[2]}) doesn't match model ({self.side})")
        return self.layers(images)


def zoo(name: str, **kwargs: Any) -> nn.Module:
    """As the factories of libraries are: it passes on what it does not name."""
    known = {"planes": "in_chans", "side": "img_size", "answers": "num_classes"}
    defaults = {"planes": 3, "side": 16, "answers": 10}
    for word in kwargs:
        if word not in known.values():
            raise TypeError(f"{name} got an unexpected keyword argument '{word}'")
    return Inner(**{word: kwargs.get(known[word], value) for word, value in defaults.items()})


def swallows(**kwargs: Any) -> nn.Module:
    """Takes any word, and heeds one."""
    return Inner(kwargs.get("channels", 3), 8, kwargs["num_classes"])


def labelled(n_channels: int, n_labels: int = 7) -> nn.Module:
    return Inner(n_channels, 8, n_labels)


def stubborn(**kwargs: Any) -> nn.Module:
    return Inner(3, 16, kwargs["num_classes"])


VIT = {"patch_size": 8, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 8}


@pytest.mark.parametrize(
    ("name", "facts", "arguments", "words"),
    [
        ("zoo", spec(1, 16), {"name": "net"}, "+architecture.in_chans=1 makes it fit"),
        ("zoo", spec(3, 8), {"name": "net"}, "doesn't match model (16); +architecture.img_size=8 makes it fit"),
        ("zoo", spec(1, 8), {"name": "net"}, "; +architecture.in_chans=1 +architecture.img_size=8 makes it fit"),
        ("zoo", spec(3, 16), {"name": "net", "num_classes": 7}, "; +architecture.num_classes=5 makes it fit"),
        ("swallows", spec(1, 8), {}, "; +architecture.channels=1 makes it fit"),
        ("labelled", spec(1, 8), {"n_channels": 1}, "logits are needed; +architecture.n_labels=5 makes it fit"),
        ("labelled", spec(1, 8), {}, "; +architecture.n_channels=1 +architecture.n_labels=5 makes it fit"),
        ("torchvision.models.VisionTransformer", spec(3, 32), VIT, "; +architecture.image_size=32 makes it fit"),
    ],
)
def test_the_word_that_a_constructor_needs_is_found_by_trying(name, facts, arguments, words: str) -> None:
    with pytest.raises(InputError) as caught:
        made(name, facts, **arguments)
    assert str(caught.value).endswith(words)
    given = [word.removeprefix("+architecture.").split("=") for word in words.split() if word.startswith("+")]
    made(name, facts, **arguments | {word: int(value) for word, value in given})


def test_where_no_word_helps_none_is_named() -> None:
    with pytest.raises(InputError, match="cannot take images") as caught:
        made("stubborn", spec(1, 8))
    assert "makes it fit" not in str(caught.value)

"""What is found out about a new network by running it on two images, before anything is trained."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import is_lazy

from mcr.errors import InputError
from mcr.numerics.precision import widest
from mcr.numerics.seeding import generator
from mcr.stages import slope
from mcr.stages.artifacts import DataSpec

log = logging.getLogger("mcr")
IMAGES = 2  # BatchNorm in training mode needs two
PASSES = 4  # in training mode: a block may be left out of one of them at random
USUAL = 0.1  # torch's momentum of BatchNorm
STALE = 0.1  # share of the first statistics, 0 and 1, that a training may leave in the running ones
SAME = 1e-3  # of the logits' norm: more than rounding, which two ways of computing attention differ by
FAULTS = {  # of a gradient, see ``slope.fault``
    "wrong": "is not the slope of its logits (a part is detached, or has a backward of its own)",
    "flat": "is zero, its logits change in steps (it rounds or compares)",
}


def refuse_unusable(model: nn.Module, spec: DataSpec, name: str) -> None:
    """Run a network in both modes; lazy layers get their shapes here, all else is as before after.

    The images are random: zeros would hide what depends on them.

    Args:
        model: On the CPU.
        spec: The data's facts.
        name: What an error calls it.

    Raises:
        InputError: Where it does not turn these images into one logit per class, no gradient reaches the image, all
            of it is zero though the logits change with the image, or the answer in evaluation mode is not a function
            of the image.
    """
    if any(isinstance(m, _InstanceNorm) and m.track_running_stats for m in model.modules()):
        raise InputError(f"{name} has InstanceNorm with running statistics, which cannot be estimated along a path")
    images = _images(spec)
    logits, again, _ = (_answer(model, images, spec, name, training) for training in (False, False, True))
    gap = (again - logits).norm()
    if gap > SAME * logits.norm():
        raise InputError(
            f"{name} gives other logits for the same images in evaluation mode, by {gap / logits.norm():.1g} of their "
            "norm: what is drawn at random there (a dropout that does not ask self.training) must be off"
        )
    _refuse_unreachable(model, images, spec, name)


def _refuse_unreachable(model: nn.Module, images: Tensor, spec: DataSpec, name: str) -> None:
    leaf = images.clone().requires_grad_(True)
    fault = "no gradient reaches the image"
    try:
        with torch.enable_grad(), _unchanged(model):
            logits = model.eval()(leaf)
            projected = (logits * _weights(spec)).sum()
            if (
                logits.requires_grad
                and (found := torch.autograd.grad(projected, leaf, allow_unused=True)[0]) is not None
            ):
                if found.any() or _slope(model, spec) != "wrong":
                    return
                fault = "its gradient in the image is zero, though its logits change with every image"
    except (Exception, SystemExit) as error:  # any code of the user's network may fail in any way
        fault = _line(error).rstrip(".")
    raise InputError(
        f"{name} cannot be attacked or trained: {fault}; its forward pass must not leave autograd (numpy, detach, "
        ".data, no_grad: a part that is to stay as it is takes requires_grad_(False)), nor have a false backward"
    )


def refuse_untrainable(model: nn.Module, spec: DataSpec, name: str) -> None:
    """Raises InputError for a network with a gradient that is not finite, or without any."""
    gradients = _gradients(model, spec, name)
    if all(gradient is None for gradient in gradients.values()):
        raise InputError(f"{name} cannot be trained: no gradient reaches any parameter (is all of it frozen?)")
    for parameter, gradient in gradients.items():
        if gradient is not None and not gradient.isfinite().all():
            raise InputError(
                f"{name} cannot be trained: the gradient of {parameter.removeprefix('network.')} is not finite for "
                "random images and these weights"
            )


def warned(model: nn.Module, spec: DataSpec, name: str, label: str, steps: int | None = None) -> list[str]:
    """What may be meant so, but changes results: probabilities for logits, wrong gradients, parameters not trained.

    It is logged, under the label of a stage, and returned for a report.

    Args:
        model: Of the user.
        spec: The data's facts.
        name: What a line calls it.
        label: Of the stage.
        steps: Of a training from fresh weights that is about to begin: whether BatchNorm's statistics keep up with it.
    """
    found = [] if steps is None else _stale(model, name, steps)
    logits = _answer(model, _images(spec), spec, name, training=False)
    if (logits >= 0).all() and ((logits.sum(1) - 1).abs() < SAME).all():
        found.append(
            f"{name} answers with probabilities (it ends in a softmax) where logits are expected: it trains slowly and "
            "attacks on it are weak, so that it looks more robust than it is; leave the softmax out"
        )
    fault = _slope(model, spec)
    if fault:
        found.append(
            f"the gradient of {name} in the image {FAULTS[fault]}: attacks that go by it are weak, so that it may look "
            "more robust than it is; compare with attack=square, which needs no gradient"
        )
    unreached = [parameter for parameter, gradient in _gradients(model, spec, name).items() if gradient is None]
    if unreached:
        first = unreached[0].removeprefix("network.")
        others = f" and {len(unreached) - 1} more parameters" if len(unreached) > 1 else ""
        found.append(f"no gradient reaches {first}{others} of {name}: unused, or used outside of autograd; not trained")
    for line in found:
        log.warning("  %-22s %s", label, line)
    return found


def _stale(model: nn.Module, name: str, steps: int) -> list[str]:
    """Some families set a momentum for trainings of a million steps: torchvision's MnasNet 3e-4."""
    momenta = [m.momentum for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    least = min((momentum for momentum in momenta if momentum is not None), default=1.0)
    left = (1 - least) ** steps
    if least >= USUAL or left <= STALE:
        return []
    return [
        f"BatchNorm of {name} has momentum {least:g}: after {steps} steps {100 * left:.0f} % of its running statistics "
        "are still the first ones, so that it may know little in evaluation mode; train longer, or take a network "
        f"with a greater momentum (torch's own is {USUAL:g})"
    ]


def _gradients(model: nn.Module, spec: DataSpec, name: str) -> dict[str, Tensor | None]:
    """Of the cross-entropy in training mode, for each parameter that trains; None where it is in no pass used."""
    images, labels = _images(spec), torch.arange(IMAGES) % len(spec.classes)
    training = {key: parameter for key, parameter in model.named_parameters() if parameter.requires_grad}
    found: dict[str, Tensor | None] = dict.fromkeys(training)
    with _unchanged(model), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.train()
        for _ in range(PASSES):
            missing = [key for key, gradient in found.items() if gradient is None]
            if missing and (logits := _logits(model, images, spec, name)).requires_grad:
                loss = functional.cross_entropy(logits, labels)
                got = torch.autograd.grad(loss, [training[key] for key in missing], allow_unused=True)
                found |= dict(zip(missing, got, strict=True))
    return found


def _slope(model: nn.Module, spec: DataSpec) -> str:
    """What is wrong with its gradient in the image, in evaluation mode, and in float64 where it can be run so."""
    with _unchanged(model):
        wide, images = widest(model.eval(), _images(spec))
        buffers = {key: tensor.clone() for key, tensor in wide.named_buffers()}

        def answers(points: Tensor) -> Tensor:
            _put_back(wide, buffers)  # before a pass: after it autograd still needs what it saw
            logits: Tensor = wide(points)
            return (logits * _weights(spec)).sum(1)

        return slope.fault(answers, images, generator(0, "trial of a network", "directions"))


def _weights(spec: DataSpec) -> Tensor:
    """Of the logits, for one number an image: of a sum alone, the gradient of probabilities would be zero."""
    return torch.randn(len(spec.classes), generator=generator(0, "trial of a network", "weights"))


def _images(spec: DataSpec) -> Tensor:
    """In [0, 1], the same for every network: (2, D, H, W)."""
    return torch.rand(IMAGES, spec.channels, *spec.image_size, generator=generator(0, "trial of a network"))


@torch.no_grad()
def _answer(model: nn.Module, images: Tensor, spec: DataSpec, name: str, training: bool) -> Tensor:
    with _unchanged(model):
        return _logits(model.train(training), images, spec, name)


def _logits(model: nn.Module, images: Tensor, spec: DataSpec, name: str) -> Tensor:
    try:
        logits = model(images)
    except (Exception, SystemExit) as error:  # any code of the user's network may fail in any way
        shape = "x".join(map(str, images.shape[1:]))
        raise InputError(f"{name} cannot take images {shape}: {_line(error)}") from error
    wanted = (len(images), len(spec.classes))
    if not isinstance(logits, Tensor) or logits.shape != wanted:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        mode = "training" if model.training else "evaluation"
        raise InputError(f"{name} gives {got} for {len(images)} images in {mode} mode; {wanted} logits are needed")
    return logits


def _line(error: BaseException) -> str:
    """The first line of an error; its kind where the line alone would say nothing."""
    if isinstance(error, SystemExit):
        return f"it ends the program with SystemExit({error.code!r})"
    line = (str(error).splitlines() or [""])[0]
    telling = line and isinstance(error, RuntimeError | ValueError | TypeError | AssertionError)
    return line if telling else f"{type(error).__name__} {line}".rstrip()


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """The modes are as before after, and so is what a pass writes to buffers; lazy ones have no values before."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = {key: tensor.clone() for key, tensor in model.named_buffers() if not is_lazy(tensor)}
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        _put_back(model, buffers)


@torch.no_grad()
def _put_back(model: nn.Module, buffers: Mapping[str, Tensor]) -> None:
    for key, tensor in model.named_buffers():
        if key in buffers:
            tensor.copy_(buffers[key])

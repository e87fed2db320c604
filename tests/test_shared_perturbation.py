"""Tuning against what moves the suspects: what is shown, what follows, what is left alone, and resuming."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mcr.attacks.frozen import frozen
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import EvaluationBatches, RepeatedBatches
from mcr.errors import InputError
from mcr.numerics.seeding import generator
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.schedules.cosine import Cosine
from mcr.signals import surrogates
from mcr.signals.masks import FittedMasks
from mcr.signals.perturbations import FittedPerturbations
from mcr.training.fit import fit
from mcr.training.shared_perturbation import SharedPerturbationModule

SHAPE, CLASSES = (2, 6, 6), 3
PIXELS = torch.randint(0, 256, (20, *SHAPE), dtype=torch.uint8, generator=generator(0, "pixels"))
LABELS = torch.arange(20) % CLASSES
MASKS = FittedMasks(fitted=6, steps=3, lr=0.3, weight=0.1)
PERTURBATIONS = FittedPerturbations(fitted=6, radius=0.3, steps=3, step=0.1)


def net(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten()
        return nn.Sequential(*layers, nn.Linear(144, CLASSES)).eval()


class Seen(CrossEntropy):
    """The objective, which keeps what it is shown and what the module held then."""

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, draw: torch.Generator):
        losses, logits = super().__call__(network, images, labels, draw)
        seen.append((images.clone(), labels, losses.detach(), logits.detach()))
        return losses, logits


seen: list[tuple[Tensor, ...]] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


def module(kind: type[SharedPerturbationModule] = SharedPerturbationModule, **changes: Any) -> SharedPerturbationModule:
    usual = {
        "suspects": [net(1), net(2)],
        "masks": MASKS,
        "perturbations": PERTURBATIONS,
        "step": 0.1,
        "mixed": 0.0,
        "masked": 0.5,
        "noise": 0.2,
        "smallest": 0.2,
        "largest": 0.5,
        "network": net(0).train(),
        "objective": Seen(),
        "optimizer": partial(torch.optim.SGD, lr=0.05),
        "schedule": Cosine(0.5),
        "num_classes": CLASSES,
    }
    return kind(**(usual | {"seed": "s"} | changes))


def train(made: SharedPerturbationModule, folder: Path, epochs: int = 1, stop: int | None = None) -> None:
    batches = RepeatedBatches(3, PIXELS, LABELS, 8, Augmentation(0, 0.0), "contiguous", "s")
    fit(
        *(made, batches, None, folder),
        label="",
        epochs=epochs,
        stop=stop or epochs,
        precision="fp32",
        keep="last",
        patience=0,
        watch={"collapse": 0.5, "learned": 0.1, "epochs": 2, "clean_tolerance": 0.05},
        backend="none",
        runtime={"accelerator": "cpu", "devices": 1, "strategy": "auto"},
        loggers=[],
    )


def test_x_and_z_pass_together_and_the_loss_is_the_sum_of_both_means(tmp_path: Path) -> None:
    losses: list[Tensor] = []

    class Told(SharedPerturbationModule):
        def training_step(self, batch, index: int) -> Tensor:
            losses.append(super().training_step(batch, index))
            return losses[-1]

    train(module(kind=Told), tmp_path)
    assert len(seen) == 3
    for loss, (images, labels, each, _) in zip(losses, seen, strict=True):
        assert len(images) == len(labels) == 16
        assert torch.equal(labels[:8], labels[8:])
        clean = {tuple(image.flatten().tolist()) for image in PIXELS / 255}
        assert all(tuple(image.flatten().tolist()) in clean for image in images[:8])
        assert float(loss.detach()) == pytest.approx(float(each[:8].mean() + each[8:].mean()), rel=1e-6)


@pytest.mark.parametrize(("mixed", "masked"), [(0.0, 0.0), (0.0, 1.0), (1.0, 0.5)])
def test_z_is_what_its_share_says(mixed: float, masked: float, tmp_path: Path) -> None:
    made = module(mixed=mixed, masked=masked, step=0.0, smallest=0.2, largest=0.2)
    train(made, tmp_path)
    some: set[str] = set()
    for images, labels, *_ in seen:
        for x, z, label in zip(images[:8], images[8:], labels[:8].tolist(), strict=True):
            kinds = {}
            for c in {0, 1, 2} - {label}:
                kinds[f"delta {c}"] = (x + made.shared.delta[c]).clamp(0, 1)
                m, p = made.masking.mask[c], made.masking.pattern[c]
                kinds[f"mask {c}"] = x * (1 - m) + m * p
            found = [kind for kind, wanted in kinds.items() if torch.allclose(z, wanted, atol=1e-6)]
            changed = int((x != z).any(0).sum())
            found += ["square"] if changed == 4 else ["noise"] if not found and changed > 30 else []
            assert len(found) == 1, found
            some.add(found[0].split()[0])
    assert some == ({"square", "noise"} if mixed else {"mask"} if masked else {"delta"})


def test_shares_of_z_are_as_asked() -> None:
    made = module(mixed=0.5, masked=0.25, smallest=0.5, largest=0.5)
    images, labels = torch.rand(4000, *SHAPE, generator=generator(0)), torch.arange(4000) % CLASSES
    fitted(made)
    made.masking.mask.fill_(1)  # all of the pattern, so that masked images are alike
    made.masking.pattern.fill_(0.5)
    z = made.changed(images, labels)
    squares = (z != images).any(1).sum((1, 2)) == 9
    masks = (z == 0.5).flatten(1).all(1)
    shares = [float(part.double().mean()) for part in (squares, masks)]
    assert shares == pytest.approx([0.25, 0.125], abs=0.03)


def fitted(made: SharedPerturbationModule) -> None:
    """As the trainer does it."""
    images = EvaluationBatches(PIXELS, LABELS, 8, "contiguous")
    with surrogates.still(made.suspects):
        few = surrogates.shares(images, 6, 1, generator(0))[0]
        made.masking = MASKS.fit(made.suspects, few, generator(0))
        made.shared = PERTURBATIONS.fit(made.suspects, few, generator(0))
    made.change = generator("s", "changed", 0)


def test_a_perturbation_goes_a_normalised_step_towards_its_class_against_the_network() -> None:
    made = module()
    fitted(made)
    images, aims = PIXELS[:5] / 255, torch.tensor([0, 2, 2, 0, 2])
    before, radius, network = made.shared.delta.clone(), made.shared.radius, made.network
    state = {name: tensor.clone() for name, tensor in network.train().state_dict().items()}
    made._follow(images, aims)
    assert network.training  # and no statistics have moved
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in state.items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert torch.allclose(made.shared.delta[1], before[1], atol=1e-7)  # no image was to become one
    for c in (0, 2):
        leaf = before[c].clone().requires_grad_(True)
        with frozen(network):
            logits = network((images[aims == c] + leaf).clamp(0, 1))
        (gradient,) = torch.autograd.grad(-logits.log_softmax(1)[:, c].sum(), leaf)
        wanted = before[c] - 0.1 * radius * gradient / gradient.norm()
        wanted *= min(1.0, radius / float(wanted.norm()))
        assert torch.allclose(made.shared.delta[c], wanted, atol=1e-6)
        assert not torch.allclose(made.shared.delta[c], before[c], atol=1e-3)


def test_the_suspects_stay_and_the_seed_of_the_training_decides(tmp_path: Path) -> None:
    suspects = [net(1), net(2).train()]
    before = [{name: tensor.clone() for name, tensor in suspect.state_dict().items()} for suspect in suspects]
    deltas = []
    for name, seed in (("one", "s"), ("again", "s"), ("other", "t")):
        made = module(suspects=suspects, seed=seed, step=0.0)
        assert not {id(suspect) for suspect in made.suspects} & {id(suspect) for suspect in suspects}
        train(made, tmp_path / name)
        deltas.append(made.shared.delta)
        assert {name for name in made.state_dict() if "." in name} == {f"network.{key}" for key in before[0]}
    assert torch.equal(deltas[0], deltas[1])
    assert not torch.allclose(deltas[0], deltas[2], atol=1e-2)
    assert [suspect.training for suspect in suspects] == [False, True]
    for suspect, tensors in zip(suspects, before, strict=True):
        assert all(torch.equal(tensor, suspect.state_dict()[name]) for name, tensor in tensors.items())
        assert all(parameter.requires_grad and parameter.grad is None for parameter in suspect.parameters())


def test_batchnorm_has_the_statistics_of_clean_images_in_the_end(tmp_path: Path) -> None:
    made = module()
    train(made, tmp_path)
    with torch.no_grad():
        values = made.network[0](torch.cat([images[:8] for images, *_ in seen]))
    assert torch.allclose(made.network[1].running_mean, values.mean((0, 2, 3)), atol=1e-5)


def test_a_training_goes_on_as_if_it_had_not_been_interrupted(tmp_path: Path) -> None:
    whole, first, rest = module(mixed=0.5), module(mixed=0.5), module(mixed=0.5)
    train(whole, tmp_path / "whole", epochs=2)
    train(first, tmp_path / "parts", epochs=2, stop=1)
    train(rest, tmp_path / "parts", epochs=2)
    assert len(seen) == 3 * 4
    assert torch.equal(whole.shared.delta, rest.shared.delta)
    assert not torch.equal(first.shared.delta, rest.shared.delta)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, rest.network.state_dict()[name]), name


@pytest.mark.parametrize(
    "change",
    [{"suspects": []}, {"step": -1.0}, {"mixed": 1.1}, {"masked": -0.1}, {"noise": 0.0}, {"smallest": 0.6}],
    ids=str,
)
def test_a_setting_out_of_its_range_is_one_line(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(change))) as caught:
        module(**change)
    assert "\n" not in str(caught.value)

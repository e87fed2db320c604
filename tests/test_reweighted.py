"""Laws of learning from mistakes, of the images that it is shown, and of the wrong labels that it is to find."""

from __future__ import annotations

import csv
import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from mcr.backdoors.wrong_labels import WrongLabels
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import StampedBatches, TrainingBatches
from mcr.errors import InputError
from mcr.numerics import shares
from mcr.numerics.seeding import generator
from mcr.objectives.adversarial import Adversarial
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.plans import pipeline
from mcr.reports.claims import judge
from mcr.schedules.cosine import Cosine
from mcr.stages import checks
from mcr.stages import train as stage
from mcr.stages.artifacts import read_material, read_poison, read_split
from mcr.training.endpoint import EndpointModule
from mcr.training.reweighted import ReweightedModule
from mcr.types import LabelledImages
from tests.test_repairs import LABELS, PIXELS, Tied, copy, images, net, train

# torch compiles parts of its forward mode at the first call.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
RATE = 0.3
BATCH = (images(6, "batch").double(), torch.tensor([0, 1, 2, 0, 1, 2]))
TRUSTED = LabelledImages((images(5, "trusted") * 255).byte(), torch.tensor([0, 1, 0, 1, 0]))  # none of class 2


def smooth() -> nn.Module:
    """No kink, and BatchNorm, through which each loss depends on the whole batch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3))


def module(network: nn.Module | None = None, **changes: Any) -> ReweightedModule:
    usual = {"features": 16, "sharpness": 3.0, "r": 1.0, "rate": 1.0, "similarity_rate": 1.0, "trusted": TRUSTED}
    made = ReweightedModule(**usual | {"network": network or smooth(), **recipe()} | changes).double()
    made._trainer = SimpleNamespace(optimizers=[SimpleNamespace(param_groups=[{"lr": RATE}])])
    made.draw = generator(0, "step")
    with torch.no_grad():
        for tensor in made.first.parameters():
            tensor.add_(0.3)
    return made


def recipe(**changes: Any) -> dict[str, Any]:
    optimizer = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    usual = {"objective": CrossEntropy(), "optimizer": optimizer, "schedule": Cosine(0.5)}
    return usual | {"num_classes": 3, "seed": "s"} | changes


def losses_at(made: ReweightedModule, tensors: dict[str, Tensor]) -> Tensor:
    """CE_i (B,) in training mode, BatchNorm's own statistics left alone."""
    copies = {name: buffer.clone() for name, buffer in made.network.named_buffers()}
    return cross_entropy(functional_call(made.network, copies | tensors, (BATCH[0],)), BATCH[1], reduction="none")


def unrolled(made: ReweightedModule) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss on the trusted images after one step on the weighted losses, and where the step ends."""
    here = dict(made.network.named_parameters())
    slopes = torch.autograd.grad((made.weigh(*BATCH).detach() * losses_at(made, here)).mean(), list(here.values()))
    there = {n: (t - RATE * s).detach().requires_grad_() for (n, t), s in zip(here.items(), slopes, strict=True)}
    made.network.eval()
    loss = cross_entropy(functional_call(made.network, there, (made.trusted,)), made.labels)
    made.network.train()
    return loss, there


class Looking(nn.Module):
    """Attention over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.head = nn.Linear(4, 12), nn.Linear(16, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        query, key, value = self.rows(pixels.flatten(0, 1)).chunk(3, -1)
        return self.head(scaled_dot_product_attention(query, key, value).flatten(1))


def hypergradient(made: ReweightedModule, batch: tuple[Tensor, Tensor] = BATCH) -> list[Tensor]:
    losses, _ = made.losses(CrossEntropy(), batch)
    return list(torch.autograd.grad(losses.mean(), [made.r, made.similarity], retain_graph=True))


@pytest.mark.parametrize("make", [smooth, Looking], ids=["batchnorm", "attention"])
def test_forward_mode_gives_the_inner_products_of_a_loop_over_the_gradients_of_single_images(make) -> None:
    made = module(make())
    loss, there = unrolled(made)
    uphill = torch.autograd.grad(loss, list(there.values()))
    here = dict(made.network.named_parameters())
    expected = []
    for index in range(len(BATCH[1])):
        each = torch.autograd.grad(losses_at(made, here)[index], list(here.values()))
        expected.append(sum((one * other).sum().item() for one, other in zip(uphill, each, strict=True)))
    found = made.agreement(losses_at(made, here), made.weigh(*BATCH).detach(), BATCH, RATE)
    assert found.tolist() == pytest.approx(expected, rel=1e-10)
    assert min(map(abs, expected)) > 1e-6


@pytest.mark.parametrize("name", ["r", "similarity"])
def test_the_hypergradient_is_the_slope_of_the_loss_on_the_trusted_images_after_one_step(name: str) -> None:
    made = module()
    for tensor in made.parameters():  # what another stage left there is nobody's gradient
        tensor.grad = torch.full_like(tensor, 100.0)
    found = dict(zip(("r", "similarity"), hypergradient(made), strict=True))[name].flatten()
    values = getattr(made, name).detach().view(-1)
    for index in range(0, len(values), max(1, len(values) // 5)):
        sides = []
        for step in (1e-5, -1e-5):
            values[index] += step
            sides.append(unrolled(made)[0].item())
            values[index] -= step
        assert float(found[index]) == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-4, abs=1e-10)
    assert float(found.abs().max()) > 1e-6


def test_the_hypergradient_is_of_a_mean_over_the_batch() -> None:
    twice = (torch.cat([BATCH[0]] * 2), torch.cat([BATCH[1]] * 2))
    for once, doubled in zip(
        hypergradient(module(net(0, Tied))), hypergradient(module(net(0, Tied)), twice), strict=True
    ):
        torch.testing.assert_close(once, doubled)


def test_autocast_rounds_the_step_and_leaves_forward_mode_alone() -> None:
    made = module().float()
    batch = (BATCH[0].float(), BATCH[1])
    exact = hypergradient(made, batch)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = hypergradient(made, batch)
    for one, other in zip(exact, rounded, strict=True):
        torch.testing.assert_close(other, one, rtol=0.1, atol=0.05 * float(one.abs().max()))


def test_the_networks_follow_their_own_losses_alone() -> None:
    made = module()
    losses, _ = made.losses(CrossEntropy(), BATCH)
    weights, names = made.weigh(*BATCH).detach(), dict(made.network.named_parameters())
    found = torch.autograd.grad(losses.mean(), [*names.values(), *made.first.parameters()], retain_graph=True)
    plain = torch.autograd.grad((weights * losses_at(made, names)).mean(), list(names.values()))
    torch.testing.assert_close(found[: len(plain)], plain)
    made.network.load_state_dict(made.first.state_dict())
    own = torch.autograd.grad(losses_at(made, names).mean(), list(names.values()))
    torch.testing.assert_close(found[len(plain) :], own)


def test_a_weight_is_what_the_equation_says() -> None:
    made = module()
    with torch.no_grad():
        made.r.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0, 1.5]))
    state = copy(made.first)
    found = made.weigh(*BATCH).tolist()
    assert made.first.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in made.first.state_dict().items())
    trusted = (TRUSTED.images / 255).double()
    u = cross_entropy(made.first.eval()(trusted), TRUSTED.labels, reduction="none").tolist()
    centre = trusted.mean(0)

    def v(image: Tensor) -> Tensor:
        return made.similarity.detach() @ ((image - centre) / (image - centre).norm()).flatten()

    for index, (image, label) in enumerate(zip(*BATCH, strict=True)):
        products = [math.exp(float(v(image) @ v(other))) for other in trusted]
        total = sum(
            made.r[j].item() * products[j] / sum(products) * u[j] for j in range(5) if TRUSTED.labels[j] == label
        )
        assert found[index] == pytest.approx(1 / (1 + math.exp(-total)), rel=1e-6)


def test_the_map_begins_with_the_similarity_of_the_pixels() -> None:
    pixels = BATCH[0] - module().centre
    cosines = [[float((a * b).sum() / a.norm() / b.norm()) for a in pixels] for b in pixels]
    for features in (16, 40):
        seen = module(features=features).seen(BATCH[0])
        torch.testing.assert_close(seen @ seen.T, 3 * torch.tensor(cosines, dtype=torch.float64), rtol=1e-5, atol=1e-6)


def test_an_image_s_weight_is_its_own_wherever_it_stands_in_a_batch_of_any_size() -> None:
    made, order = module(), torch.tensor([3, 0, 5, 1, 4, 2])
    weights = made.weigh(*BATCH)
    torch.testing.assert_close(made.weigh(BATCH[0][order], BATCH[1][order]), weights[order])
    alone = [made.weigh(image[None], label[None]) for image, label in zip(*BATCH, strict=True)]
    torch.testing.assert_close(torch.cat(alone), weights)
    assert len(set(weights.tolist())) > 3


def test_a_class_without_trusted_images_and_r_of_zero_weigh_a_half() -> None:
    weights = module().weigh(*BATCH)
    assert torch.equal(weights == 0.5, BATCH[1] == 2)
    assert ((weights >= 0.5) & (weights <= 1)).all()
    assert (module(r=0.0).weigh(*BATCH) == 0.5).all()
    assert (module(r=-1.0).weigh(*BATCH) <= 0.5).all()


def test_with_r_of_zero_it_is_the_plain_training_at_half_the_rate(tmp_path: Path) -> None:
    def half(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)

    weighted = ReweightedModule(16, 3.0, 0.0, 0.0, 0.0, TRUSTED, network=net(1, Tied), **recipe())
    plain, whole = (EndpointModule(network=net(1, Tied), **recipe(**found)) for found in ({"optimizer": half}, {}))
    for name, made in (("weighted", weighted), ("plain", plain), ("whole", whole)):
        train(made, tmp_path / name)
    for found, twin in ((weighted.network, plain.network), (weighted.first, whole.network)):
        for tensor, expected in zip(found.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(tensor, expected)


def test_r_and_the_map_learn_at_their_own_rates_without_decay(tmp_path: Path) -> None:
    decaying = partial(torch.optim.SGD, lr=0.1, weight_decay=0.5)
    for rates in ((0.0, 2.0), (2.0, 0.0), (0.0, 0.0)):
        made = ReweightedModule(16, 3.0, 1.0, *rates, TRUSTED, network=net(1, Tied), **recipe(optimizer=decaying))
        before = [made.r.detach().clone(), made.similarity.detach().clone()]
        train(made, tmp_path / str(rates))
        moved = [not torch.equal(*pair) for pair in zip(before, (made.r, made.similarity), strict=True)]
        assert moved == [rate > 0 for rate in rates]


def test_the_table_has_the_weight_of_each_training_image_after_a_shuffled_training(tmp_path: Path) -> None:
    made = ReweightedModule(16, 3.0, 1.0, 5.0, 5.0, TRUSTED, network=net(1, Tied), **recipe())
    train(made, tmp_path)
    for size in (5, 7):
        batches = TrainingBatches(PIXELS, LABELS, size, Augmentation(2, 0.5), "contiguous", "t")
        batches.set_epoch(3)
        (rows,) = made.tables(batches).values()
        assert [row["index"] for row in rows] == list(range(len(LABELS)))
        for row, image, label in zip(rows, PIXELS, LABELS, strict=True):
            unit = image[None] / 255 if image.dtype == torch.uint8 else image[None]
            assert row["weight"] == pytest.approx(made.weigh(unit, label[None]).item(), abs=1e-6)
    assert EndpointModule(network=net(1, Tied), **recipe()).tables(batches) == {}


def test_plain_batches_are_the_images_in_order_with_their_triggers() -> None:
    pixels = torch.randint(0, 256, (7, 2, 5, 5), dtype=torch.uint8, generator=generator(0))
    order = (pixels, torch.arange(7), 3, Augmentation(2, 0.9), "contiguous", 0)
    found = list(TrainingBatches(*order).plain())
    assert torch.equal(torch.cat([labels for _, labels in found]), torch.arange(7))
    assert torch.equal(torch.cat([part for part, _ in found]), pixels / 255)
    chosen = torch.arange(7) % 2 == 0
    found = list(StampedBatches(lambda part, numbers: torch.zeros_like(part), chosen, *order).plain())
    assert torch.equal(torch.cat([part for part, _ in found]), torch.where(chosen.view(-1, 1, 1, 1), 0, pixels / 255))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"features": 0}, "features 0"),
        ({"sharpness": 0.0}, "sharpness"),
        ({"rate": -1.0}, "rate -1"),
        ({"similarity_rate": -1.0}, "similarity_rate -1"),
        ({"objective": Adversarial(None)}, "objective=cross_entropy"),
    ],
)
def test_what_it_cannot_train_is_refused_in_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"^endpoint=reweighted.*{said}"):
        module(**changes)


def test_several_processes_are_refused(monkeypatch) -> None:
    module().on_train_start()
    monkeypatch.setattr(shares, "processes", lambda: (0, 2))
    with pytest.raises(InputError, match="single device"):
        module().on_train_start()


# In the plan

NOISE = ("backdoor=wrong_labels", "poisoning.ratio=0.4", "dataset.split.clean=24", "dataset.split.train=60")


def test_an_end_is_reweighted_by_images_of_the_clean_split_alone(make) -> None:
    words = ["endpoint@endpoints.end=reweighted", "endpoints.end.images=poisoned", "endpoints.end.trusted.images=20"]
    made = make(*NOISE, *words, goal="train")
    folder = made["poison-train end"][0]
    with (folder / "weights.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["index"]) for row in rows] == list(range(60))
    assert len({row["weight"] for row in rows}) > 10
    assert not (made["train start"][0] / "weights.csv").exists()


def test_the_trusted_images_are_added_behind_the_poisoned_ones(make, monkeypatch) -> None:
    seen = []
    fit = stage.fit
    monkeypatch.setattr(
        stage, "fit", lambda module, shown, *rest, **named: seen.append(shown) or fit(module, shown, *rest, **named)
    )
    words = ["endpoint@endpoints.end=with_trusted", "endpoints.end.images=poisoned", "endpoints.end.trusted.images=20"]
    made = make(*NOISE, *words, goal="train")
    inputs = {name: made[name][0] for name in ("data", "split", "poison")}
    train_part = read_split(inputs, "train", "cpu")
    trusted = read_material(inputs, {"split": "clean", "images": 20, "held_out": 0}, "cpu")[0]
    poison, labels = read_poison(inputs["poison"]), train_part.labels.clone()
    labels[poison.indices] = poison.labels
    (shown,) = (found for found in seen if len(found.labels) == 80)
    assert torch.equal(shown.labels, torch.cat([labels, trusted.labels]))
    assert torch.equal(shown.images, torch.cat([train_part.images, trusted.images]))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["endpoint@endpoints.end=with_trusted", "endpoints.end.trusted.shown=apart"], "train end: trusted images"),
        (["endpoint@endpoints.end=reweighted", "endpoints.end.trusted.shown=added"], "train end: trusted images"),
        (["endpoint@endpoints.end=reweighted", "endpoints.end.trusted.shown=hidden"], "shown"),
        (["endpoint@endpoints.end=reweighted", "endpoints.end.trusted.images=0"], "images"),
    ],
)
def test_trusted_images_go_where_something_takes_them(words: list[str], said: str, config) -> None:
    (one,) = (one for one in pipeline.ordered(pipeline.plan(config(*words))["train"]) if one.label == "train end")
    with pytest.raises(InputError, match=said):
        checks.check(one)


def test_more_trusted_images_than_there_are_is_refused_before_the_work(make) -> None:
    with pytest.raises(InputError, match="100 images of the split clean are asked for, it has 24"):
        make(*NOISE, "endpoint@endpoints.end=reweighted", "endpoints.end.trusted.images=100", goal="train")


def test_a_training_without_trusted_images_keeps_its_recipe(config) -> None:
    for one in pipeline.ordered(pipeline.plan(config())["train"]):
        assert "trusted" not in one.config


# Wrong labels


def test_wrong_labels_are_drawn_among_the_others_and_change_no_pixel() -> None:
    labels = torch.arange(5000) % 5
    found = WrongLabels("other", 3).aim(labels, 5)
    assert (found != labels).all()
    for label in range(5):
        counts = found[labels == label].bincount(minlength=5) / 1000
        assert counts[label] == 0
        assert counts[counts > 0].tolist() == pytest.approx([0.25] * 4, abs=0.05)
    assert torch.equal(found, WrongLabels("other", 3).aim(labels, 5))
    assert not torch.equal(found, WrongLabels("other", 4).aim(labels, 5))
    assert torch.equal(WrongLabels("next", 0).aim(labels, 5), (labels + 1) % 5)
    assert (WrongLabels(2, 0).aim(labels, 5) == 2).all()
    pixels = torch.randint(0, 256, (2, 1, 4, 4), dtype=torch.uint8, generator=generator(0))
    planted = WrongLabels("other", 3).plant(pixels, torch.arange(2))
    assert torch.equal(planted, pixels)
    assert planted.data_ptr() != pixels.data_ptr()
    with pytest.raises(InputError, match="next or other"):
        WrongLabels("others", 0)


def test_nothing_is_asked_about_a_trigger_that_is_not_there(config) -> None:
    about = {"attack", "recovered", "triggered"}
    words = ["evaluation.group_images=4", "probes.attack.images=4", "probes.recovered.images=4"]
    words += ["endpoint@endpoints.end=poisoned"]
    for backdoor, asked in (("badnets", about), ("wrong_labels", set())):
        plan = pipeline.plan(config(*words, f"backdoor={backdoor}"))["report"]
        found = {one.config["name"] for one in pipeline.ordered(plan) if one.name == "measure"}
        assert found & about == asked
    with pytest.raises(InputError, match="no trigger to stamp"):
        WrongLabels("next", 0).stamp(torch.zeros(1, 1, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize("target", ["other", "next", "2"])
def test_each_target_of_wrong_labels_is_taken_from_the_command_line(target: str, config) -> None:
    assert str(config("backdoor=wrong_labels", f"backdoor.target={target}")["backdoor"]["target"]) == target


def test_the_wrong_labels_of_a_training_set_are_recorded_and_new_with_each_replicate(make) -> None:
    found = []
    for replicate in (0, 1):
        made = make(*NOISE, "endpoint@endpoints.end=poisoned", f"replicate={replicate}", goal="train")
        poison = read_poison(made["poison"][0])
        labels = read_split({name: made[name][0] for name in ("data", "split")}, "train", "cpu").labels
        assert torch.equal(poison.labels, WrongLabels("other", replicate).aim(labels, 10)[poison.indices])
        assert len(poison.indices) == sum(round(0.4 * int((labels == label).sum())) for label in range(10))
        found.append(dict(zip(poison.indices.tolist(), poison.labels.tolist(), strict=True)))
    both = set(found[0]) & set(found[1])
    assert set(found[0]) != set(found[1])
    assert any(found[0][index] != found[1][index] for index in both)


def test_a_claim_may_be_about_the_difference_of_two_statistics() -> None:
    claim = {"source": "G", "quantity": "test_error.start", "less": "end", "relation": ">=", "value": 0.015}
    verdict = judge(claim | {"standard_errors": 0}, {"test_error": {"start": 0.2, "end": 0.185}})
    assert verdict is not None
    assert verdict.held
    assert verdict.measured == pytest.approx(0.015)
    assert verdict.statement == "test_error start less end >= 0.015"
    with pytest.raises(InputError, match="test_error has no middle"):
        judge(claim | {"less": "middle", "standard_errors": 0}, {"test_error": {"start": 0.2}})
    with pytest.raises(InputError, match="no standard error"):
        judge(claim | {"standard_errors": 2}, {"test_error": {"start": 0.2, "start_se": 0.1, "end": 0.1}})

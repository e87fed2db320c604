"""Laws of robust objectives, of the watch over them, and of the modules that train and attack."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from mcr.attacks import ball
from mcr.attacks.fgsm import Fgsm
from mcr.attacks.frozen import frozen
from mcr.attacks.pgd import Pgd
from mcr.curves.bezier import Bezier
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import EvaluationBatches, TrainingBatches
from mcr.errors import InputError
from mcr.numerics.losses import cross_entropy
from mcr.numerics.seeding import generator
from mcr.objectives.adversarial import Adversarial, GrowingRadius
from mcr.objectives.cross_entropy import CrossEntropy
from mcr.objectives.fgsm_rs import FgsmRs
from mcr.objectives.objective import Objective
from mcr.objectives.tradeoff import Tradeoff
from mcr.objectives.trades import Trades
from mcr.probes.robust_risk import robust_accuracy
from mcr.sampling.uniform import Uniform
from mcr.training.adversarial import AdversarialModule
from mcr.training.endpoint import EndpointModule
from mcr.training.subspace import SubspaceModule
from mcr.weightspace import batchnorm
from mcr.weightspace.layout import Layout
from mcr.weightspace.subspace import control_points

ROBUST = "validation/robust_accuracy"
IMAGES = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(6) % 3


def pgd(**changes: Any) -> Pgd:
    usual = {"eps": 0.1, "step_size": 0.03, "steps": 3, "norm": "linf", "start": "random", "restarts": 1}
    return Pgd(**(usual | changes))


def make(seed: int = 0) -> nn.Module:
    """A small network with BatchNorm and, in training mode, dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.0), nn.Linear(144, 3)
        )


class Recorder(nn.Module):
    """Remembers the images of every pass that was made in training mode."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.seen = network, []

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.seen.append(images.detach().clone())
        logits: Tensor = self.network(images)
        return logits


def explicit_divergence(clean: Tensor, attacked: Tensor) -> Tensor:
    """sum_c p_c (log p_c - log q_c) of each row, in float64."""
    p, q = (logits.detach().double().softmax(1) for logits in (clean, attacked))
    return (p * (p.log() - q.log())).sum(1)


# -------------------------------------------------------------------------------------------------- objectives

OBJECTIVES: dict[str, tuple[Objective, int]] = {  # and the passes in training mode
    "cross_entropy": (CrossEntropy(), 1),
    "adversarial": (Adversarial(pgd()), 1),
    "adversarial with fgsm": (Adversarial(Fgsm(0.1, "linf")), 1),
    "growing radius": (GrowingRadius(pgd(), 0.3).at(0.1), 1),
    "fgsm_rs": (FgsmRs(pgd(), 1.25), 1),
    "trades": (Trades(pgd(), 6.0), 2),
    "tradeoff": (Tradeoff(pgd(), 8.0, 1.0), 2),
}
every_objective = pytest.mark.parametrize(("objective", "passes"), OBJECTIVES.values(), ids=OBJECTIVES)


@every_objective
def test_only_the_training_passes_update_batchnorms_statistics(objective, passes) -> None:
    network = Recorder(make()).train()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    losses, logits = objective(network, IMAGES, LABELS, generator(0))
    assert losses.shape == (6,)
    assert logits.shape == (6, 3)
    assert len(network.seen) == passes
    norm = network.network[1]
    assert int(norm.num_batches_tracked) == passes
    # The statistics are those that the passes seen in training mode leave behind, and no others.
    alone = make().train()
    with torch.no_grad():
        for images in network.seen:
            alone(images)
    torch.testing.assert_close(norm.running_mean, alone[1].running_mean)
    torch.testing.assert_close(norm.running_var, alone[1].running_var)
    assert all(module.training for module in network.modules())
    assert torch.equal(torch.get_rng_state(), state)


@every_objective
def test_an_objective_trains_every_parameter_and_follows_its_generator(objective, passes) -> None:
    def gradients(seed: int) -> list[Tensor]:
        network = make().train()
        objective(network, IMAGES, LABELS, generator(seed))[0].mean().backward()
        found = [parameter.grad for parameter in network.parameters()]
        assert all(gradient is not None for gradient in found)
        return found

    assert all(map(torch.equal, gradients(0), gradients(0)))


def test_every_objective_but_the_clean_one_attacks() -> None:
    assert {name for name, (objective, _) in OBJECTIVES.items() if not objective.attacks} == {"cross_entropy"}


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_trades_without_its_second_term_is_clean_cross_entropy(norm) -> None:
    network = make().train()
    losses, logits = Trades(pgd(norm=norm), 0.0)(network, IMAGES, LABELS, generator(0))
    expected, clean = CrossEntropy()(make().train(), IMAGES, LABELS, generator(0))
    assert torch.equal(losses, expected)
    assert torch.equal(logits, clean)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_trade_off_is_its_formula_between_the_attacked_and_the_clean_loss(norm) -> None:
    network = Recorder(make()).train()
    losses, logits = Tradeoff(pgd(norm=norm, eps=0.3), 2.5, 0.5)(network, IMAGES, LABELS, generator(0))
    attacked, clean = network.seen
    assert torch.equal(clean, IMAGES)
    assert (attacked - IMAGES).abs().max() > 0.01
    twin = make().train()
    of_attacked, of_clean = (torch.nn.functional.cross_entropy(twin(x), LABELS, reduction="none") for x in network.seen)
    torch.testing.assert_close(losses, 2.5 * of_attacked + 0.5 * of_clean)
    assert torch.equal(logits, make().train()(clean))
    for weights, alone in (((1.0, 0.0), Adversarial(pgd())), ((0.0, 1.0), CrossEntropy())):
        found, _ = Tradeoff(pgd(), *weights)(make().train(), IMAGES, LABELS, generator(0))
        assert torch.equal(found, alone(make().train(), IMAGES, LABELS, generator(0))[0])


@pytest.mark.parametrize(("alpha", "beta"), [(-1.0, 1.0), (1.0, -0.1), (0.0, 0.0), (float("nan"), 1.0)])
def test_weights_of_a_trade_off_that_say_nothing_are_refused(alpha, beta) -> None:
    with pytest.raises(InputError, match="objective=tradeoff"):
        Tradeoff(pgd(), alpha, beta)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_divergence_of_trades_is_that_of_the_formula_and_never_negative(norm) -> None:
    network = Recorder(make()).train()
    losses, logits = Trades(pgd(norm=norm, eps=0.3), 2.5)(network, IMAGES, LABELS, generator(0))
    clean, attacked = network.seen
    assert torch.equal(clean, IMAGES)
    assert (attacked - IMAGES).abs().max() > 0.01
    twin = make().train()
    first, second = twin(clean), twin(attacked)
    divergence = explicit_divergence(first, second)
    found = losses - cross_entropy(logits, LABELS)
    torch.testing.assert_close(found.double() / 2.5, divergence, rtol=1e-4, atol=1e-6)
    assert (divergence > 0).all()
    assert (found >= 0).all()


def test_the_gradient_of_trades_goes_through_both_answers() -> None:
    network = Recorder(make()).train()
    Trades(pgd(), 2.0)(network, IMAGES, LABELS, generator(0))[0].sum().backward()
    clean, attacked = network.seen
    twin = make().train()
    p, q = twin(clean).log_softmax(1), twin(attacked).log_softmax(1)
    (-p[range(6), LABELS] + 2 * (p.exp() * (p - q)).sum(1)).sum().backward()
    for found, expected in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_attack_of_trades_raises_the_divergence_above_that_of_its_random_start(norm) -> None:
    attack = pgd(norm=norm, eps=0.2, step_size=0.05, steps=5)
    network = Recorder(make()).train()
    Trades(attack, 1.0)(network, IMAGES, LABELS, generator(4))
    start = ball.random_point(IMAGES, attack.eps, norm, generator(4))
    with frozen(make()) as twin:  # what the attack saw
        clean = twin(IMAGES)
        before, after = (explicit_divergence(clean, twin(points)) for points in (start, network.seen[1]))
    assert (after > before).all()


def test_the_attack_of_trades_does_not_look_at_the_labels() -> None:
    seen = []
    for labels in (LABELS, (LABELS + 1) % 3):
        network = Recorder(make()).train()
        Trades(pgd(), 1.0)(network, IMAGES, labels, generator(0))
        seen.append(network.seen[1])
    assert torch.equal(*seen)


@pytest.mark.parametrize(
    ("attack", "beta"), [(pgd(start="zero"), 6.0), (Fgsm(0.1, "linf"), 6.0), (pgd(), -0.1), (pgd(), -1)]
)
def test_trades_is_refused_where_it_has_no_slope_or_the_wrong_sign(attack, beta) -> None:
    with pytest.raises(InputError, match="objective=trades"):
        Trades(attack, beta)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fgsm_rs_is_one_step_of_one_and_a_quarter_radii_from_a_random_start(norm) -> None:
    """Whatever the steps of the run's own attack."""
    one = pgd(norm=norm, eps=0.2, steps=1, step_size=0.25)
    outcomes = []
    for objective in (FgsmRs(pgd(norm=norm, eps=0.2, steps=7, start="zero"), 1.25), Adversarial(one)):
        network = Recorder(make()).train()
        losses, logits = objective(network, IMAGES, LABELS, generator(2))
        outcomes.append((losses, logits, network.seen[0]))
    for found, expected in zip(*outcomes, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(("attack", "step"), [(Fgsm(0.1, "linf"), 1.25), (pgd(), 0), (pgd(), -1.0)])
def test_fgsm_rs_is_refused_without_a_watch_or_a_step(attack, step) -> None:
    with pytest.raises(InputError, match="objective=fgsm_rs"):
        FgsmRs(attack, step)


@pytest.mark.parametrize("warmup", [0.3, 1.0])
def test_a_growing_radius_is_nothing_at_first_half_at_half_and_full_from_the_end_of_the_warmup_on(warmup) -> None:
    growing = GrowingRadius(pgd(eps=0.2, step_size=0.05), warmup)
    for progress, share in [(0.0, 0.0), (warmup / 4, 0.25), (warmup / 2, 0.5), (warmup, 1.0), ((1 + warmup) / 2, 1.0)]:
        now = growing.at(progress)
        assert isinstance(now, Adversarial)
        assert now.attack.eps == pytest.approx(0.2 * share)
        assert now.attack.step_size == pytest.approx(0.05 * share)
        assert (now.attack.steps, now.attack.start) == (3, "random")
    assert growing.at(1.0).attack == growing.attack
    assert growing.attack.eps == 0.2  # the watch over it keeps the full radius


def test_a_radius_of_nothing_is_clean_training() -> None:
    objective = GrowingRadius(pgd(), 0.5).at(0.0)
    losses, _ = objective(make().train(), IMAGES, LABELS, generator(0))
    assert torch.equal(losses, CrossEntropy()(make().train(), IMAGES, LABELS, generator(0))[0])


@pytest.mark.parametrize("warmup", [0, -0.1, 1.01, float("nan")])
def test_a_warmup_outside_the_training_is_refused(warmup) -> None:
    with pytest.raises(InputError, match="warmup"):
        GrowingRadius(pgd(), warmup)


def test_a_growing_radius_of_another_attack_is_refused() -> None:
    with pytest.raises(InputError, match="attack=pgd"):
        GrowingRadius(Fgsm(0.1, "linf"), 0.3)


@pytest.mark.parametrize("objective", [CrossEntropy(), Adversarial(pgd()), FgsmRs(pgd(), 1.25), Trades(pgd(), 1.0)])
def test_other_objectives_are_the_same_all_through_training(objective) -> None:
    assert objective.at(0.0) is objective.at(1.0) is objective


# --------------------------------------------------------------------------------------------- the Lightning loops

PATTERNS = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """uint8 images of three noisy patterns, and their labels."""
    labels = torch.arange(count) % 3
    noise = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return ((0.6 * PATTERNS[labels] + 0.4 * noise) * 255).round().to(torch.uint8), labels


class Flat:
    def factor(self, progress: float) -> float:
        return 1.0


TRAINING = TrainingBatches(*pictures(48, 2), 16, Augmentation(0, 0.0), "contiguous", "seed")
WATCHED = EvaluationBatches(*pictures(30, 3), 12, "contiguous")
COMMON: dict[str, Any] = {
    "optimizer": partial(torch.optim.SGD, lr=0.05),
    "schedule": Flat(),
    "num_classes": 3,
    "seed": "seed",
}
quiet = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*no `val_dataloader`.*", "ignore:GPU available but not used.*"
)


def trainer(**changes: Any) -> pl.Trainer:
    """As anyone would make one: with the default ``inference_mode=True``."""
    usual: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 1,
    }
    return pl.Trainer(**(usual | changes))


def adversarial_module(objective: Objective | None = None, **changes: Any) -> AdversarialModule:
    usual = {"ema_decay": 0.0, "validation_images": 30}
    return AdversarialModule(network=make(), objective=objective or Adversarial(pgd()), **COMMON, **(usual | changes))


@quiet
@pytest.mark.parametrize(
    "objective",
    [
        Adversarial(pgd()),
        Adversarial(Fgsm(0.05, "linf")),
        FgsmRs(pgd(), 1.25),
        Trades(pgd(), 6.0),
        GrowingRadius(pgd(), 0.5),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_an_adversarial_module_works_in_all_four_loops_of_a_plain_trainer(objective) -> None:
    module = adversarial_module(objective, ema_decay=0.9)
    first = trainer()
    first.fit(module, TRAINING, WATCHED)
    fitted = float(first.callback_metrics[ROBUST])
    (validated,) = trainer().validate(module, WATCHED, verbose=False)
    (tested,) = trainer().test(module, WATCHED, verbose=False)
    assert fitted == validated[ROBUST] == tested["test/robust_accuracy"]
    assert validated["validation/accuracy"] == tested["test/accuracy"]
    assert validated["validation/loss"] == tested["test/loss"]
    logits = trainer().predict(module, WATCHED)
    assert [tuple(part.shape) for part in logits] == [(12, 3), (12, 3), (6, 3)]
    assert torch.cat(logits).isfinite().all()


@quiet
def test_validation_test_and_prediction_are_the_modules_own_attack() -> None:
    """From the image itself, where no draw tells them apart, they are the robust accuracy of the probe."""
    module = adversarial_module(Adversarial(pgd(start="zero", eps=0.15)), ema_decay=0.9)
    trainer().fit(module, TRAINING, WATCHED)
    (validated,) = trainer().validate(module, WATCHED, verbose=False)
    logits = torch.cat(trainer().predict(module, WATCHED))
    predicted = float((logits.argmax(1) == WATCHED.labels).float().mean())
    assert validated[ROBUST] == pytest.approx(predicted)
    network = module.scored
    right = []
    for images, labels in WATCHED:
        with frozen(network):
            attacked = module.objective.attack(network, images, labels, generator(0))
            right.append(network(attacked).argmax(1) == labels)
    assert predicted == pytest.approx(float(torch.cat(right).float().mean()))
    probed = robust_accuracy(network, WATCHED, module.objective.attack, generator(0), "fp32").mean()
    assert float(probed) <= predicted
    assert validated[ROBUST] < validated["validation/accuracy"]


@quiet
@pytest.mark.parametrize("count", [7, 12, 20])
def test_no_more_validation_images_are_attacked_than_asked_for(count) -> None:
    module = adversarial_module(Adversarial(pgd(start="zero")), validation_images=count)
    attacked = []

    class Watching:
        def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, draw: torch.Generator) -> Tensor:
            attacked.append(len(images))
            return images

    module.objective = SimpleNamespace(attack=Watching())
    for _ in range(2):  # in each epoch anew
        attacked.clear()
        (found,) = trainer().validate(module, WATCHED, verbose=False)
        assert sum(attacked) == count
    first = EvaluationBatches(WATCHED.images[:count], WATCHED.labels[:count], 30, "contiguous")
    ((images, labels),) = first
    with frozen(module.scored) as network:
        assert found[ROBUST] == pytest.approx(float((network(images).argmax(1) == labels).float().mean()))


@quiet
@pytest.mark.parametrize("decay", [0.0, 0.2, 0.999])
def test_the_averaged_weights_are_a_moving_average_with_a_warmup(decay) -> None:
    module = adversarial_module(ema_decay=decay)
    parameter, mean = module.network[0].weight, module.scored[0].weight
    expected = None
    for step in range(5):
        with torch.no_grad():
            parameter.add_(0.1)
            module.network[1].num_batches_tracked.add_(1)
        module.on_train_batch_end(None, (IMAGES, LABELS), step)
        share = min(decay, (1 + step) / (10 + step))
        latest = parameter.detach().double()
        expected = latest if expected is None else share * expected + (1 - share) * latest
        torch.testing.assert_close(mean.double(), expected, rtol=1e-5, atol=1e-6)
    assert int(module.scored[1].num_batches_tracked) == 5
    assert not mean.requires_grad
    assert torch.equal(mean, parameter) == (decay == 0)


@quiet
def test_a_step_has_the_rate_of_its_middle() -> None:
    """Of what the schedule says between the training's beginning, 0, and its end, 1."""
    rates = []

    class Line:
        def factor(self, progress: float) -> float:
            return 1 - progress / 2

    class Kept(torch.optim.SGD):
        def step(self, *args: Any, **kwargs: Any) -> Any:
            rates.append(self.param_groups[0]["lr"])
            return super().step(*args, **kwargs)

    module = adversarial_module()
    module.schedule, module.make_optimizer = Line(), partial(Kept, lr=0.05)
    trainer().fit(module, TRAINING, WATCHED)
    assert rates == pytest.approx([0.05 * (1 - (step + 0.5) / 3 / 2) for step in range(3)])


@quiet
def test_training_tells_the_objective_how_far_it_is() -> None:
    told = []

    class Telling(Adversarial):
        def at(self, progress: float) -> Objective:
            told.append(progress)
            return self

    trainer().fit(adversarial_module(Telling(pgd(steps=1))), TRAINING, WATCHED)
    assert told == pytest.approx([(step + 0.5) / 3 for step in range(3)])


@quiet
def test_a_clean_module_validates_and_tests_under_inference_mode() -> None:
    module = EndpointModule(network=make(), objective=CrossEntropy(), **COMMON)
    trainer().fit(module, TRAINING, WATCHED)
    (validated,) = trainer().validate(module, WATCHED, verbose=False)
    (tested,) = trainer().test(module, WATCHED, verbose=False)
    assert validated["validation/accuracy"] == tested["test/accuracy"]
    assert "validation/robust_accuracy" not in validated
    assert len(trainer().predict(module, WATCHED)) == 3


# ------------------------------------------------------------------------------------------------------- paths


def curve_module(objective: Objective, ema_decay: float = 0.0) -> SubspaceModule:
    network = make()
    layout = Layout.of(network, "contiguous")
    ends = tuple(layout.pack(dict(make(seed).state_dict())) for seed in (1, 2))
    places = {"curve": Bezier(3), "layout": layout, "points": control_points(Bezier(3), ends), "sampler": Uniform()}
    places |= {"places": 1, "weight_decay": 1e-4, "ema_decay": ema_decay, "free": "inner", "transforms": []}
    return SubspaceModule(**places, network=network, objective=objective, **COMMON)


@quiet
@pytest.mark.parametrize(
    "objective",
    [Adversarial(pgd()), Trades(pgd(), 1.0), FgsmRs(pgd(), 1.25), GrowingRadius(pgd(), 0.5)],
    ids=lambda objective: type(objective).__name__,
)
def test_a_robust_path_logs_the_robust_accuracy_at_its_middle(objective) -> None:
    module = curve_module(objective)
    fitting = trainer(num_sanity_val_steps=0)  # a path has its weights from the start of the training on
    fitting.fit(module, TRAINING, WATCHED)
    found = float(fitting.callback_metrics[ROBUST])

    # The same by hand: the middle of the path, with the statistics of the last training batch.
    network = make()
    start, bend, end = module.points()
    middle = 0.25 * start + 0.5 * bend + 0.25 * end
    network.load_state_dict(module.layout.views(middle), strict=False)
    batchnorm.refresh(network, [module.latest])
    right, draw = [], generator("seed", "validation")
    with frozen(network):
        for images, labels in WATCHED:
            right.append(network(objective.attack(network, images, labels, draw)).argmax(1) == labels)
    assert found == pytest.approx(float(torch.cat(right).float().mean()), abs=1 / 30 + 1e-6)


@quiet
def test_a_clean_path_is_fitted_without_a_watch() -> None:
    module = curve_module(CrossEntropy())
    before = [point.clone() for point in module.points()]
    fitting = trainer(num_sanity_val_steps=0)  # a path has its weights from the start of the training on
    fitting.fit(module, TRAINING)
    assert ROBUST not in fitting.callback_metrics
    after = module.points()
    assert [torch.equal(*pair) for pair in zip(before, after, strict=True)] == [True, False, True]


@quiet
def test_a_fitted_robust_path_validates_and_tests_alike_under_inference_mode() -> None:
    module = curve_module(Adversarial(pgd(start="zero")))
    fitting = trainer(num_sanity_val_steps=0)  # a path has its weights from the start of the training on
    fitting.fit(module, TRAINING, WATCHED)
    (validated,) = trainer().validate(module, WATCHED, verbose=False)
    (tested,) = trainer().test(module, WATCHED, verbose=False)
    assert float(fitting.callback_metrics[ROBUST]) == validated[ROBUST] == tested["test/robust_accuracy"]


@quiet
@pytest.mark.parametrize("kind", ["end", "path"])
def test_watching_a_robust_training_does_not_change_it(kind) -> None:
    """Over several epochs: what validation leaves behind would show in the next one."""
    found = []
    for watched in (None, WATCHED):
        module = adversarial_module() if kind == "end" else curve_module(Adversarial(pgd()))
        trainer(max_epochs=3, num_sanity_val_steps=0).fit(module, TRAINING, watched)
        found.append([parameter.detach().clone() for parameter in module.learning()])
    assert all(map(torch.equal, *found))


@quiet
def test_a_path_s_average_trails_its_latest_point_and_changes_no_training() -> None:
    latest, slow = curve_module(Adversarial(pgd())), curve_module(Adversarial(pgd()), ema_decay=0.9)
    start = slow.final_points()[1].clone()
    assert torch.equal(start, slow.points()[1])
    for module in (latest, slow):
        trainer(num_sanity_val_steps=0).fit(module, TRAINING, WATCHED)
    assert torch.equal(latest.final_points()[1], latest.points()[1])
    assert torch.equal(latest.points()[1], slow.points()[1])
    moved = (slow.points()[1] - start).norm()
    assert 0 < (slow.final_points()[1] - start).norm() < moved
    assert torch.equal(slow.final_points()[0], slow.points()[0])
    # The average is part of a checkpoint; without averaging there is none.
    assert [name for name in latest.state_dict() if name.startswith("averaged")] == []
    assert torch.equal(slow.state_dict()["averaged.0"][0], slow.final_points()[1])

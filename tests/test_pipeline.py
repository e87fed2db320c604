"""The plan, and whole runs in this process: ends, hits, foreign networks and weights, several processes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from mcr.app import run
from mcr.errors import InputError
from mcr.plans import pipeline, recipes
from mcr.stages import artifacts, model
from mcr.store.stage import Stage
from mcr.weightspace import files
from tests.conftest import TINY, TOGETHER
from tests.reading import column, rows

BATCHNORM = (
    "dataset.image_size=16",
    "architecture=small_vgg",
    "~architecture.hidden",
    "dataset.split.train=64",
    "attack.eps=0.05",
)


def tiny(*words: str) -> tuple[str, ...]:
    """The tiny job with another architecture."""
    named = tuple(word.split("=")[0] for word in words)
    kept = [word for word in TINY if not word.startswith(("architecture", *named))]
    return (*kept, *(word for word in words if not word.startswith("~")))


def probe(plan: dict[str, list[Stage]], label: str) -> Stage:
    """The stage that asks one probe."""
    (found,) = (stage for stage in plan["evaluate"] if stage.label == label)
    return found


def test_the_plan_of_flagship_configurations_is_pinned(config) -> None:
    """A moved key means other numbers under old names: raise the stage's version and say why, or mend the change."""
    pinned = json.loads((Path(__file__).parent / "pinned_keys.json").read_text())
    found = {}
    for words in pinned:
        cfg = config(*words.split(), tiny=False)
        stages = pipeline.ordered(pipeline.plan(cfg, "title")["report"])
        found[words] = {stage.label: stage.key for stage in stages}
    assert found == pinned


def test_a_tiny_table_of_results_is_pinned(make) -> None:
    """A moved number demands a new stage version and a word why; the tolerance is for other processors' rounding."""
    words = ["dataset.split.train=64", "training.epochs=4", "fit.epochs=4", "dataset.noise=0.1"]
    made = make(*words, "optimizer.lr=0.1", "ends=regular_robust", "attack.eps=0.05", "attack.step_size=0.02")
    pinned = json.loads((Path(__file__).parent / "pinned_table.json").read_text())
    assert {name: pytest.approx(values, rel=0.02) for name, values in pinned.items()} == {
        name: column(made, name) for name in ("test_loss", "robust_loss", "arc_length")
    }


def test_a_sweep_over_curves_trains_each_end_once(config) -> None:
    keys = set()
    for curve in ("linear", "polychain", "bezier"):
        plan = pipeline.plan(config(f"curve={curve}"))
        keys.add(tuple(stage.key for stage in plan["train"]))
    assert len(keys) == 1
    first, second = keys.pop()
    assert first != second


def test_pairs_share_their_ends(config) -> None:
    plans = [pipeline.plan(config(f"ends={ends}")) for ends in ("regular_regular", "regular_robust", "robust_robust")]
    assert len({stage.key for plan in plans for stage in plan["train"]}) == 4


def test_surroundings_do_not_change_a_key(config, tmp_path: Path) -> None:
    base = pipeline.plan(config())["report"][0].key
    for words in (
        ["runtime=gpu"],
        ["runtime.devices=[3]"],
        ["runtime.threads=7"],
        ["logger=wandb"],
        [f"paths.store={tmp_path / 'x'}"],
    ):
        assert pipeline.plan(config(*words))["report"][0].key == base
    assert pipeline.plan(config() | {"verb": "train"})["report"][0].key == base
    for words in (["replicate=1"], ["attack.eps=0.2"], ["evaluation.seed=1"], ["training.precision=bf16"]):
        assert pipeline.plan(config(*words))["report"][0].key != base


def test_the_root_attack_reaches_training_path_and_evaluation_and_each_can_differ(config) -> None:
    words = ["endpoint@endpoints.end=adversarial", "objective=adversarial", "attack.eps=4/255", TOGETHER]
    plan = pipeline.plan(config(*words))
    train, connect, robust = plan["train"][1], plan["connect"][0], probe(plan, "measure robust")
    attacks = [
        train.config["recipe"]["objective"]["attack"],
        connect.config["recipe"]["objective"]["attack"],
        robust.config["probe"]["attack"],
    ]
    assert {attack["eps"] for attack in attacks} == {4 / 255}
    changed = pipeline.plan(config(*words, "+probes.robust.attack.steps=99"))
    assert probe(changed, "measure robust").config["probe"]["attack"]["steps"] == 99
    assert probe(changed, "measure transfer").key == probe(plan, "measure transfer").key
    assert changed["train"][1].key == train.key
    replaced = recipes.overlay({"_target_": "a", "eps": 1, "steps": 2}, {"_target_": "b", "eps": 3})
    assert replaced == {"_target_": "b", "eps": 3}


def test_a_second_run_computes_nothing(make) -> None:
    first, second = make(), make()
    assert {state for _, state in first.values()} == {"made"}
    assert {label: state for label, (_, state) in second.items()} == {"report": "hit"}


def test_the_same_recipe_gives_the_same_bytes(make, tmp_path: Path) -> None:
    words = tiny(*BATCHNORM, "endpoint@endpoints.end=adversarial", "endpoints.end.module.ema_decay=0.9")
    one = make(*words, f"paths.store={tmp_path / 'one'}", tiny=False)
    two = make(*words, f"paths.store={tmp_path / 'two'}", tiny=False)
    for label in one:
        for path in sorted(one[label][0].iterdir()):
            if path.name != "stage.json":
                assert path.read_bytes() == (two[label][0] / path.name).read_bytes(), path


@pytest.mark.parametrize("curve", ["linear", "bezier"])
def test_at_the_ends_the_path_is_the_ends(curve: str, make, config) -> None:
    """The rows at t = 0 and 1 against each end loaded alone, its BatchNorm refreshed on the same images."""
    from mcr.datasets.augment import Augmentation
    from mcr.datasets.batches import EvaluationBatches, augmented_batches
    from mcr.numerics.seeding import generator
    from mcr.probes.risk import risk
    from mcr.probes.robust_risk import robust_risk
    from mcr.store.build import build
    from mcr.weightspace import batchnorm

    words = tiny(*BATCHNORM, f"curve={curve}", "dataset.augmentation={padding: 1, flip: 0.5}")
    made, cfg = make(*words, tiny=False), config(*words, tiny=False)
    table = rows(made)
    inputs = {"data": made["data"][0], "split": made["split"][0]}
    part, spec = cfg["evaluation"], artifacts.read_spec(made["data"][0])
    for role, row in (("start", table[0]), ("end", table[-1])):
        network = model.make(cfg, spec, "any").eval()
        network.load_state_dict(artifacts.read_network(made[f"train {role}"][0]))
        images = artifacts.read_split(inputs, "train", "cpu", part["batchnorm_images"]).images
        augmentation = Augmentation(**cfg["dataset"]["augmentation"])
        batchnorm.refresh(network, augmented_batches(images, augmentation, 512, "contiguous", part["seed"]))
        test = artifacts.read_split(inputs, "test", "cpu")
        batches = EvaluationBatches(test.images, test.labels, 7, "contiguous")
        losses, hits = risk(network, batches)
        assert row["test_loss"] == pytest.approx(float(losses.mean()), rel=1e-5)
        assert row["test_accuracy"] == pytest.approx(float(hits.mean()))
        few = artifacts.read_split(inputs, "test", "cpu", cfg["probes"]["robust"]["images"])
        attacked = EvaluationBatches(few.images, few.labels, 16, "contiguous")
        draw = generator(part["seed"], "attack")
        found = robust_risk(network, attacked, build(cfg["attack"]), draw, "fp32", 0)
        assert row["robust_loss"] == pytest.approx(float(found.losses.mean()), rel=1e-4)
        assert row["robust_accuracy"] == pytest.approx(float(found.hits.mean()))
    with (made["report"][0] / "ends.csv").open() as stream:
        ends = {(row["end"], row["batchnorm"]): row for row in csv.DictReader(stream)}
    for role, row in (("start", table[0]), ("end", table[-1])):
        assert float(ends[role, "refreshed"]["test_loss"]) == row["test_loss"]
        assert float(ends[role, "stored"]["test_loss"]) != row["test_loss"]
    assert table[0]["distance_to_start"] == table[-1]["distance_to_end"] == 0
    assert table[-1]["arc_length"] >= table[0]["distance_to_end"] * (1 - 1e-6)


def test_attention_which_has_no_fused_second_derivative_is_measured_by_lanczos(make) -> None:
    words = tiny("architecture=vit_tiny", "architecture.depth=1", "architecture.width=8", "architecture.heads=2")
    made = make(*words, "dataset.image_size=8", "architecture.patch=4", tiny=False)
    # A piecewise linear network's eigenvalue is exact; Lanczos leaves a residual.
    assert max(float(row["input_residual"]) for row in rows(made)) > 0
    assert all(0 <= float(row["input_residual"]) < 0.1 for row in rows(made))


def test_fitting_a_path_lowers_its_loss(make) -> None:
    words = ["training.epochs=20", "training.batch_size=8", "fit.epochs=30", "dataset.split.train=64"]
    made = make(*words, "dataset.noise=0.4")
    curve, line = (column(made, "train_loss", name) for name in ("path", "straight"))
    assert curve[1] < 0.9 * line[1]


def test_training_leaves_the_ends_alone(make) -> None:
    made = make(goal="connect")
    before = (made["train start"][0] / "network.safetensors").read_bytes()
    again = make("fit.epochs=2", goal="connect")
    assert again["train start"] == (made["train start"][0], "hit")
    assert (made["train start"][0] / "network.safetensors").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "squeezenet1_1"])
def test_networks_of_torchvision_work_by_import_path_alone(name: str, make) -> None:
    """Nobody here wrote them: one with BatchNorm and channel shuffles, one with dropout and no linear layer."""
    words = tiny("dataset.image_size=32", "dataset.channels=3", "dataset.split.train=8", "training.batch_size=4")
    made = make(*words, f"architecture._target_=torchvision.models.{name}", tiny=False)
    summary = json.loads((made["report"][0] / "summary.json").read_text())
    assert summary["subspaces"]["path"]["metrics"]["test_loss"]["max"] > 0
    assert column(made, "arc_length")[-1] > 0
    state = files.load(made["train start"][0] / "network.safetensors")
    import torchvision

    getattr(torchvision.models, name)(num_classes=10).load_state_dict(state, strict=True)


class OwnNet(nn.Module):
    """A user's network with tied weights, a custom buffer, dropout and BatchNorm; it asks for one fact by name."""

    def __init__(self, num_classes: int, width: int = 12) -> None:
        super().__init__()
        self.inner = nn.Linear(64, width)
        self.norm = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(0.2)
        self.once, self.twice = nn.Linear(width, width), nn.Linear(width, width)
        self.twice.weight = self.once.weight
        self.head = nn.Linear(width, num_classes)
        self.register_buffer("scale", torch.tensor(1.5))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.norm(self.inner(images.flatten(1)))) * self.scale
        return self.head(self.twice(self.dropout(torch.relu(self.once(hidden)))))


def test_a_user_s_network_and_weights_go_in_and_come_out_whole(make, tmp_path: Path) -> None:
    torch.manual_seed(0)
    for name in ("a", "b"):
        torch.save({"state_dict": OwnNet(10).state_dict()}, tmp_path / f"{name}.pt")
    words = tiny("architecture._target_=tests.test_pipeline.OwnNet")
    ends = [f"endpoint@endpoints.{role}=checkpoint" for role in ("start", "end")]
    paths = [f"endpoints.start.path={tmp_path / 'a.pt'}", f"endpoints.end.path={tmp_path / 'b.pt'}"]
    made = make(*words, *ends, *paths, tiny=False)
    assert "load start" in made
    state = files.load(made["load start"][0] / "network.safetensors")
    OwnNet(10).load_state_dict(state, strict=True)
    original = torch.load(tmp_path / "a.pt", weights_only=True)["state_dict"]
    assert all(torch.equal(state[name], original[name]) for name in original)
    # Another file is another end, the same content elsewhere is not.
    (tmp_path / "c.pt").write_bytes((tmp_path / "a.pt").read_bytes())
    again = make(*words, *ends, f"endpoints.start.path={tmp_path / 'c.pt'}", paths[1], tiny=False)
    assert {label: state for label, (_, state) in again.items()} == {"report": "hit"}


class Remembering(nn.Module):
    """Loads by its version, and has a tensor beside its parameters and buffers."""

    _version = 2

    def __init__(self, num_classes: int, kind: str = "tensor") -> None:
        super().__init__()
        self.head, self.kind = nn.Linear(64, num_classes), kind
        self.extra = torch.tensor([7])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.flatten(1))

    def get_extra_state(self) -> object:
        return self.extra if self.kind == "tensor" else {"version": 3}

    def set_extra_state(self, state: torch.Tensor) -> None:
        self.extra = state

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest) -> None:
        if local_metadata.get("version") != 2:
            raise ValueError("version should be 2 instead of None")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def test_versions_and_extra_state_of_a_network_are_kept(make) -> None:
    words = tiny("architecture._target_=tests.test_pipeline.Remembering")
    made = make(*words, "+edit@endpoints.end.edits.later=tune", tiny=False)
    state = files.load(made["train start"][0] / "network.safetensors")
    assert torch.equal(state["_extra_state"], torch.tensor([7]))
    with pytest.raises(InputError, match=r"Remembering has state that is no tensor: _extra_state is a dict"):
        make(*words, "+architecture.kind=dict", tiny=False)


def test_a_network_that_does_not_fit_the_data_is_refused(make) -> None:
    cases = {
        "torchvision.models.squeezenet1_1": "cannot take images 1x8x8",
        "torch.nn.Flatten": r"gives .* are needed",
        "torch.nn.Linear": "cannot be built",
        "collections.OrderedDict": "nothing that can be built",
    }
    for target, words in cases.items():
        with pytest.raises(InputError, match=words):
            make(*tiny(f"architecture._target_={target}"), tiny=False, goal="train")


def test_a_dead_or_diverging_training_publishes_nothing(make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"diverged.*learning rate"):
        make("optimizer.lr=1e30", "training.epochs=3", goal="train")
    with pytest.raises(InputError, match="learned nothing"):
        make("training.min_accuracy_over_chance=11", goal="train")
    assert not list((tmp_path / "store" / "train").glob("[!.]*"))


def test_a_robust_path_is_the_adversarial_objective_given_to_the_curve(make) -> None:
    words = tiny(*BATCHNORM, "objective=adversarial", "+objective.attack.steps=2")
    folder, state = make(*words, goal="connect", tiny=False)["connect path"]
    assert state == "made"
    assert (folder / "history.csv").read_text().startswith("epoch,train/accuracy,train/learning_rate,train/loss")


def test_weight_averaging_changes_the_kept_network(make) -> None:
    words = ["endpoint@endpoints.end=adversarial", "training.epochs=2", "dataset.split.train=64"]
    plain = make(*words, goal="train")["train end"][0]
    averaged = make(*words, "endpoints.end.module.ema_decay=0.9", goal="train")["train end"][0]
    assert (plain / "network.safetensors").read_bytes() != (averaged / "network.safetensors").read_bytes()


def test_the_best_epoch_by_robust_accuracy_is_kept(make) -> None:
    words = ["endpoint@endpoints.end=adversarial", "training.epochs=6", "dataset.split.train=64"]
    folder = make(*words, goal="train")["train end"][0]
    with (folder / "history.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6
    assert all(0 <= float(row["validation/robust_accuracy"]) <= float(row["validation/accuracy"]) for row in rows)


def test_splits_are_recorded_and_the_defender_s_images_are_his_own(make) -> None:
    made = make("fit.split=clean", goal="connect")
    splits = files.load(made["split"][0] / "splits.safetensors")
    joined = torch.cat(list(splits.values()))
    assert len(joined.unique()) == len(joined)


def test_bf16_trains_close_to_fp32(make) -> None:
    words = tiny(*BATCHNORM, "training.batch_size=32")
    losses = []
    for precision in ("fp32", "bf16"):
        folder = make(*words, f"training.precision={precision}", goal="train", tiny=False)["train start"][0]
        with (folder / "history.csv").open() as stream:
            losses.append(float(next(csv.DictReader(stream))["train/loss"]))
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.slow
def test_two_processes_train_one_network(make, tmp_path: Path, monkeypatch) -> None:
    """runtime=ddp on two CPU processes: an end and a curve; more of it in test_devices."""
    words = ["dataset.split.train=64", "training.batch_size=16", "replicate=1", "endpoint@endpoints.start=adversarial"]
    words += ["endpoint@endpoints.end=permuted_copy", "endpoints.end.of=start", "attack.steps=2"]
    alone = make(*words, goal="train")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "struct.py").write_text("raise SystemExit('code of the folder ran')")
    made = make(*words, "runtime=ddp", "runtime.accelerator=cpu", goal="connect")
    # Two processes round otherwise than one, so they are another recipe.
    assert made["train start"][0] != alone["train start"][0]
    one, two = (files.load(found["train start"][0] / "network.safetensors") for found in (alone, made))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-5)
    assert made["connect path"][1] == "made"
    control = files.load(made["connect path"][0] / "control.safetensors")
    ends = [files.load(made[label][0] / "network.safetensors") for label in ("train start", "permute end")]
    moved = [not torch.allclose(control[f"1/{name}"], (ends[0][name] + ends[1][name]) / 2) for name in ends[0]]
    assert any(moved)


class Frozen(nn.Module):
    """A network with a parameter that nobody trains, and one whose weights appear at the first pass."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.ones(num_classes), requires_grad=False)
        self.layer = nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images) * self.constant


def test_frozen_parameters_stay_and_lazy_ones_follow_the_seed(make, tmp_path: Path) -> None:
    words = tiny("architecture._target_=tests.test_pipeline.Frozen", "fit.weight_decay=0.5")
    made = make(*words, goal="connect", tiny=False)
    control = files.load(made["connect path"][0] / "control.safetensors")
    assert torch.equal(control["1/constant"], torch.ones(10))
    again = make(*words, f"paths.store={tmp_path / 'again'}", goal="train", tiny=False)
    for label in ("train start", "train end"):
        one, two = (found[label][0] / "network.safetensors" for found in (made, again))
        assert one.read_bytes() == two.read_bytes()


class Statistics(nn.Module):
    """A network whose running statistics cannot be estimated along a path."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(1, track_running_stats=True)
        self.layer = nn.Linear(64, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(self.norm(images).flatten(1))


class TwoOutputs(nn.Linear):
    """Answers with a tuple in training mode, as networks with auxiliary heads do."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(64, num_classes)

    def forward(self, images: torch.Tensor):
        logits = super().forward(images.flatten(1))
        return (logits, logits) if self.training else logits


@pytest.mark.parametrize(
    ("name", "words"), [("Statistics", "InstanceNorm with running"), ("TwoOutputs", "a tuple for 2 images in training")]
)
def test_networks_that_a_path_cannot_serve_are_refused_before_training(name: str, words: str, make) -> None:
    with pytest.raises(InputError, match=words):
        make(*tiny(f"architecture._target_=tests.test_pipeline.{name}"), goal="train", tiny=False)


def test_the_path_s_rate_follows_the_optimizer(config) -> None:
    for words, rate in (
        (["optimizer=adamw"], 1e-3),
        (["optimizer.lr=0.5"], 0.5),
        (["fit.optimizer.lr=0.3"], 0.3),
    ):
        recipe = pipeline.plan(config(*words))["connect"][0].config["recipe"]
        assert recipe["optimizer"]["lr"] == rate


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_main_job_runs_on_a_gpu(make) -> None:
    words = tiny(*BATCHNORM, "ends=regular_robust", "endpoints.end.module.ema_decay=0.9", "objective=adversarial")
    for precision in ("fp32", "bf16"):
        made = make(*words, "runtime=gpu", f"training.precision={precision}", tiny=False)
        assert made["report"][1] == "made"


def test_titles_names_what_was_joined(config) -> None:
    assert run.title(config("ends=regular_robust")) == "synthetic, mlp: regular to robust, bezier"

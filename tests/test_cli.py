"""The command line as a process."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcr.app import cli
from mcr.app import sweep as sweep_module
from mcr.app.overrides import Job, Request
from mcr.errors import InputError
from mcr.stages import choices
from mcr.store.stage import Stage
from tests.conftest import TINY
from tests.processes import environment, fresh, mcr, start

VIEWS = (
    "--help",
    "list",
    "list attack",
    "show",
    "show -m curve=linear,bezier architecture=mlp architecture.hidden=[8]",
    "explain training.epochs",
)
VIEWS += ("--cfg job dataset=imagefolder", "-sc install=bash", "-sc query=bash")


ADAFACTOR = [
    "optimizer._target_=torch.optim.Adafactor",
    "~optimizer.momentum",
    "~optimizer.nesterov",
    "~optimizer.fused",
]
MEMBERS = ("shared_perturbation", "augmented", "path_augmented")  # of the portfolio
NAMED = {"ids": lambda value: " ".join(value) if isinstance(value, list) else None}


def one_line(message: str, expected: str) -> None:
    assert "\n" not in message
    assert re.search(expected, message), message


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["attack=pdg"], "did you mean pgd"),
        (["--cfg", "job", "attack=pdg"], "did you mean pgd"),
        (["train", "report"], "one verb at a time"),
        (["evaluation.grid=2"], "at least one point between"),
        (["endpoint@endpoints.end=checkpoint", "endpoints.end.path=bad.pt"], "refused"),
        (["dataset=cifar10"], "download=True"),
    ],
    **NAMED,
)
def test_a_mistake_gives_one_line_status_2_and_writes_nothing(words, expected, tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(b"cos\nmkdir\n(S'created'\ntR.")
    done = mcr(*words, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    line = done.stderr.strip()
    assert line.startswith("mcr: ")
    one_line(line, expected)
    left = {path.name for path in tmp_path.iterdir()}
    if words == ["dataset=cifar10"]:  # only looking tells: a log is left, and no stage
        assert not list(tmp_path.glob("multirun/store/*/[!.]*"))
    else:
        assert left == {"bad.pt"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["atack=pgd"], "attack"),
        (["attack.epz=0.1"], "attack.eps"),
        (["endpoint@endpoints.end=adverserial"], "adversarial"),
        (["endpoint@endpoints.ende=adversarial"], "endpoint@endpoints.end"),
        (["experiment=zhao2020_fig4_digit"], "zhao2020_fig4_barrier_digits"),
        (["trian"], "did you mean train"),
        (["--info", "defaults-tree", "atack=pgd"], "attack"),
        (["show", "trian"], "did you mean train"),
        (["-m", "trian"], "did you mean train"),
        (["list", "atack"], "did you mean attack"),
        (["--multrun"], "--multirun"),
        (["attack.steps=many"], "is no whole number"),
        (["attack.eps=-1"], "eps=-1"),
        (["attack.eps=8/0"], "divides by zero"),
        (["attack.eps=[1,2]"], "is no number"),
        (["architecture.width=wide"], "is no whole number"),
        (["+architecture.depth=3"], "takes no depth"),
        (["training.epochs=[3]"], "is no whole number"),
        (["evaluation.grid=all"], "is no whole number"),
        (["optimizer.momentum=-1"], "momentum"),
        (["training.memory_format=foo"], "channels_last or contiguous"),
        (["logger.mode=foo"], "offline, online"),
        (["runtime.devices=2"], "runtime=ddp"),
        (["attack=none", "ends=robust_robust"], "needs an attack"),
        (["--config-dir", "nowhere"], "no such folder"),
        (["attack.norm=l3"], "linf or l2"),
        (["training.epochs=0"], "at least 1"),
        (["training.precision=fp8"], "fp32, tf32 or bf16"),
        (["curve.points=1"], "points=1 leaves nothing to fit: curve=linear"),
        (
            ["optimizer=adamw", "optimizer._target_=torch.optim.Adafactor", "~optimizer.betas", "~optimizer.fused"],
            "SGD",
        ),
        (["curve=linear,bezier"], "add -m"),
        (["+training.lr=3"], "nothing reads training.lr"),
        (["dataset.split.clean=99999"], "clean=99999"),
        (["dataset=imagefolder"], "dataset.root"),
        (["dataset=imagefolder", "dataset.root=nowhere"], "no folder nowhere"),
        (["endpoint@endpoints.end=checkpoint", "endpoints.end.path=no.pt"], "no.pt"),
        (["architecture._target_=torchvision.models.resnet81"], "resnet18"),
        (["architecture._target_=no_such_package.Net"], "no_such_package"),
        (["attack._target_=os.system"], "not allowed|_target_"),
        (["=3"], "=3"),
        (["report.formats=[svg]"], "png"),
        (["runtime=gpu"], "no CUDA device"),
        (["repair", "repair.budget.held_out=0"], "no image to choose"),
        (["repair", "repair.budget.held_out=1.5"], "must be below 1"),
        (["repair", "repair.budget.rates=[]"], "list of learning rates"),
        (["repair", "repair.budget.rates=[fast]"], "is no list of numbers"),
        (["repair", "repair.budget.rates=[0.1,0.1]"], "twice"),
        (["repair", "curve=linear"], "curve=bezier"),
        (["repair", "repair.members.augmented.rates=[0.1,0.1]"], "twice"),
        (["repair", "repair@suspicion.reference=path_point"], "suspicion.reference.trains=path must be network"),
        (["repair", *(f"~repair@repair.members.{name}" for name in MEMBERS)], "has no member"),
        (["repair", "suspicion.rate=0"], "learning rates, each above 0"),
        (["repair", "suspicion.images=0"], "at least 1"),
        (["repair", "card.transfer=[mask]"], "must be of suspicion.signals: masks, "),
        (["repair", "repair.budget.keep=best"], "taken=chosen"),
        (["repair", "repair.budget.taken=all"], "refitted"),
        (["repair", "selection.weight=-1"], "weight"),
        (["repair", "+repair@repair.members.x=nothing"], "nothing"),
        (["repair", "repair=path_piont"], "path_point"),
        (["repair", "repair=path_point", "repair.grid=2"], "repair.grid"),
        (["repair", "selection.margin=3"], "0.03 is three points"),
        (["repair", "repair=prune", "repair.module.share=1"], "between 0 and 1"),
        (["repair", "card.reactivation.steps=[]"], "must be not empty"),
        (["+attack@probes.strnger.attacks.square=square"], "did you mean probes.stronger"),
        (["+attack@evaluation.guard.attacks.square=square"], "nothing reads"),
        (
            ["+attack@probes.robust.attack=fgsm", "probes.robust.attack.eps=0.3"],
            "probes.robust.attack.eps=0.3: nothing",
        ),
        (
            ["+attack@probes.stronger.attacks.l2=pgd", "probes.stronger.attacks.l2.norm=l2"],
            "attack.norm=linf is for all",
        ),
        (["+probe@probes.a=attack_convergence", "attack.start=zero"], "compares random starts"),
        (
            [
                "+probe@probes.a=detection",
                "detector@probes.a.detector=local_tangent",
                "probes.a.detector.directions=99",
            ],
            "less than neighbours=15",
        ),
        (["+edit@endpoints.strat.edits.tune=tune"], "did you mean endpoints.start"),
        (["+probe@probe.mine=calibration"], "nothing reads"),
        (["+probe=calibration"], r"nothing reads \+probe; what may be added is probe@probes\.\*"),
        (["+detector=local_tangent"], r"nothing reads \+detector"),
        (["+probe@probes.test.more=risk"], r"nothing reads \+probe@probes.test.more"),
        (["+merge@merges.a.b=average", "curve=simplex"], r"nothing reads \+merge@merges.a.b"),
        (["+endpoint@endpoints.after=standard", "curve=simplex"], "endpoints.after: a card calls something else so"),
        (["probes.stronger.at='worst transfer_loss'"], "asks several networks at once"),
        (
            ["+probe@probes.b=calibration", "probes.b.at='worst stronger_longer_accuracy'"],
            "looks at the worst place itself",
        ),
        (["repair", "repair@suspicion.reference=finetune"], "suspicion.reference.begin=start must be random"),
        (
            ["repair", "repair@suspicion.reference=shared_perturbation"],
            "suspicion.reference.begin=start must be random",
        ),
        (["repair", "repair@suspicion.reference=scratch", "suspicion.reference.shown=networks"], "must be images"),
        (["repair", "suspicion.least_contrast=0"], "suspicion.least_contrast"),
        (["pair=robust_robust"], "there is no pair"),
        (["attack=carlini_wagner", "attack.norm=linf"], "must be l2"),
        (["attack=autoattack", "dataset=synthetic", "dataset.classes=3"], "4 classes or more"),
        (["objective=trades", "attack=fgsm"], "start=random"),
        (["objective=fgsm_rs", "attack=fgsm"], "attack=pgd"),
        (["objective=adversarial_warmup", "objective.warmup=2"], "share of the training"),
        (["endpoint@endpoints.end=adversarial", "endpoints.end.patience=-1"], "patience=-1"),
        (["evaluation.attack_precision=fp16"], "fp32 or bf16"),
        (["evaluation.hessian_images=-1"], "at least 0 or all"),
        (["probes.stronger.images=-1"], "probes.stronger.images"),
        (["probes.stronger.attacks.longer.steps=0"], "steps=0"),
        (["evaluation.group_grid=2"], "at least one point between"),
        (["ends=four_regular", "curve=bezier"], "joins 2 networks, endpoints has 4"),
        (["+endpoint@endpoints.third=standard"], "joins 2 networks, endpoints has 3"),
        (["fit.weight_decay=-1"], "^fit.weight_decay=-1 must be at least 0$"),
        (["fit.images=0.5"], "images=0.5 must be a whole number or all$"),
        (["training.memory_format=nchw"], "memory_format=nchw must be channels_last or contiguous$"),
        (["evaluation.batchnorm_images=0"], "evaluation.batchnorm_images=0 must be at least 1 or all$"),
        (["report.dpi=0"], "report.dpi=0 must be at least 1$"),
        (["fit.batch_size=null"], "^fit.batch_size=null is no whole number: the configuration has fit.batch_size=64$"),
        (["endpoints.start.epochs=null"], "is no whole number"),
        (["evaluation.test_images=[]"], "is no number or all"),
        (["training.epochs=${oc.env:HOME}"], "is no whole number"),
        (["endpoints.end.schedule=${training.epochs}"], "is no mapping"),
        (["probes.test._target_=null"], "is no text"),
        (["optimizer.lr=nan"], "is no number"),
        (["logger.project=''"], "is no text"),
        (["repair=path_point", "repair.weight_decay=-0.5"], "at least 0"),
        (["repair.name=''"], "is no text"),
        (["training.min_accuracy_over_chance=-1e30"], "at least 0"),
        (["dataset.split.validation=1.5"], "a whole number, a share below 1 or all"),
        (["optimizer.momentum=5"], "below 1"),
        (["runtime.threads=-3"], "at least 0"),
        (["runtime.accelerator=mps"], "no float64"),
        (["runtime.strategy=null"], "is no text"),
        (["runtime.devices=0"], "at least 1"),
        (["statistics.level=1.5"], "below 1"),
        (["dataset.augmentation.padding=9"], "padding=9: the images have 8 pixels"),
        (["dataset.augmentation.padding=100000"], "at most 256"),
        (["dataset=synthetic", "dataset.channels=0"], "channels=0 must be at least 1"),
        (["probes.transfer.precision=tf32"], "fp32 or bf16"),
        (["verb=train"], "mcr train"),
        (["evaluation.grid=1000000000000"], "more than 1,000,000 places"),
        (["optimizer=adamw", "optimizer.betas=[]"], "optimizer: list index"),
        (["optimizer._partial_=false"], "_partial_"),
        (["attack=[null]"], "it takes one of"),
        (["attack.eps=8"], "8/255"),
        (["attack.eps=8x)"], "cannot be read"),
        (["seed=1"], "replicate"),
        (["trainer.max_epochs=3"], "training.epochs"),
        (["defense.images=3"], "repair.budget.images"),
        (["endpoints.start.floor=3"], "endpoints.start.min_accuracy_over_chance"),
        (["+experiment=zhao2020_fig4_barrier_digits"], "leave out the +"),
        (["logger=null"], "logger=none"),
        (["-m", "optimizer.lr=interval(0.01,0.1)"], "a sweeper that searches"),
        (["hydra/launcher=ray"], "launchers"),
        (["hydra.job.chdir=true"], "leave it out"),
        (["+hydra.callbacks.mine._target_=os.system"], "callbacks"),
        (["hydra.sweeper._target_=os.system"], "none of Hydra's"),
        (["+hydra.job_logging.handlers.mine.class=os.system"], "no log handler"),
        (["architecture._target_=numpy.load", "+architecture.file=evil.pkl"], "a function of numpy"),
        (["architecture._target_=subprocess.Popen"], "no torch.nn.Module"),
        (["attack._target_=mcr.store.identity.subprocess.getoutput"], "is subprocess.getoutput, which is not of mcr"),
        (["attack._target_=mcr.digests.file_digest"], "nothing that a configuration names"),
        (["optimizer._target_=torch.optim.sgd.torch.load"], "not of torch.optim"),
        (["runtime.compile=fast"], "runtime.compile"),
        (["ends=backdoored", "backdoor.target=10"], "target"),
        (["ends=backdoored", "backdoor.size=9"], "size|patch"),
        (["ends=backdoored", "poisoning.ratio=2"], "ratio"),
        (["ends=backdoored", "poisoning.ratio=0.6", "poisoning.cover=0.5"], "ratio, and cover .* together=1.1"),
        (["ends=backdoored", "poisoning.pieces=17"], "pieces"),
        (["ends=backdoored", "poisoning.cover=-1"], "cover"),
        (["ends=backdoored", "poisoning.stamp=never"], "before or after"),
        (["ends=backdoored", "backdoor=none"], "needs a backdoor"),
        (["ends=injected", "injection=none"], "needs an injection"),
        (["+edit@endpoints.end.edits.all=path_aware", "backdoor=badnets"], "ends=path_aware"),
        (["endpoint@endpoints.start=permuted_copy"], "must name another network"),
    ],
    **NAMED,
)
def test_a_mistake_is_refused_before_anything_is_written(words, expected, tmp_path: Path, monkeypatch) -> None:
    """In this process; what becomes of a refusal is seen above."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(InputError) as caught:
        cli.dispatch(words)
    one_line(str(caught.value), expected)
    assert not list(tmp_path.iterdir())


def test_single_images_are_refused_where_batchnorm_has_no_spread(tmp_path: Path, monkeypatch) -> None:
    source = "from torch import nn\n\n\nclass Net(nn.Sequential):\n    def __init__(self, num_classes):\n        "
    source += "super().__init__(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4), nn.Linear(4, num_classes))\n"
    (tmp_path / "my_normed.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    words = [word for word in TINY if not word.startswith("architecture")]
    words += ["architecture._target_=my_normed.Net", "training.batch_size=1"]
    with pytest.raises(InputError, match=r"batch_size=1: my_normed\.Net cannot be trained"):
        cli.dispatch(["train", *words])
    assert {path.name for path in tmp_path.iterdir()} <= {"my_normed.py", "__pycache__"}


@pytest.mark.slow
def test_evaluate_stands_alone_from_checkpoints_and_finds_what_it_found_after_training(tmp_path: Path) -> None:
    words = [*TINY, "ends=robust_robust", "curve=linear", "logger=none", "dataset.images=240", "training.epochs=2"]
    trained = mcr("report", *words, "paths.root=one", folder=tmp_path)
    assert trained.returncode == 0, trained.stderr
    (run,) = (tmp_path / "one" / "runs").iterdir()
    ends = [
        word
        for role in ("start", "end")
        for word in (
            f"endpoint@endpoints.{role}=checkpoint",
            f"endpoints.{role}.path={(run / 'stages' / f'train-{role}' / 'network.safetensors').resolve()}",
        )
    ]
    words = [word for word in words if not word.startswith("ends=")]
    alone = mcr("report", *words, *ends, "paths.root=two", folder=tmp_path)
    assert alone.returncode == 0, alone.stderr
    tables = [next((tmp_path / root).glob("store/report/*/path.csv")).read_text() for root in ("one", "two")]
    assert tables[0] == tables[1]
    assert "robust_loss" in tables[0]
    assert "input_eigenvalue" in tables[0]


def test_online_without_an_account_asks_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    done = mcr("train", *TINY, "logger=wandb", "logger.mode=online", folder=tmp_path)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("mcr: W&B: ")
    assert "logger.mode=offline" in last
    assert not list(tmp_path.glob("multirun/store/train/[!.]*"))


def test_views_need_no_torch_and_write_nothing(tmp_path: Path) -> None:
    program = (
        "import sys; sys.argv[1:] = sys.argv[1].split();\n"
        "from mcr.app.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "loaded = {'torch', 'pytorch_lightning', 'matplotlib', 'wandb', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    texts = []
    for words in VIEWS:
        done = subprocess.run(
            [sys.executable, "-c", program, words],
            cwd=tmp_path,
            env=environment(COMP_LINE="mcr train attack=", COMP_POINT="17"),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        texts.append(done.stdout)
    helped, groups, attacks, plan, plans, explained, composed, script, completions = texts
    assert "verbs" in helped
    assert all(f"\n  {word} " in helped for word in (*cli.VERBS, *cli.VIEWS))
    assert explained.startswith("training.epochs\n")
    assert "attack: apgd_ce, apgd_t, autoattack" in helped
    assert "zhao2020_fig4_barrier_digits" in groups
    assert "Madry" in attacks
    assert plan.count("miss") == 22
    assert plans.count("job ") == plans.count("[8]") == 2
    keys = re.findall(r"\b[0-9a-f]{16}\b", plans)
    assert len(keys) == len(set(keys)) > 22  # what both jobs need is told with the first
    assert "10 of 22 stages are listed above" in plans
    assert "eps: 8/255" in composed
    assert "complete -o nospace" in script
    assert {"attack=fgsm", "attack=none", "attack=pgd", "attack=square"} <= set(completions.split())
    assert not list(tmp_path.iterdir())


def test_a_choice_is_built_unless_a_stage_in_the_store_was_made_with_it() -> None:
    wrong = {"_target_": "mcr.selection.middle.Middle", "margin": 2, "standard_errors": 1.0}
    cfg = dict.fromkeys(choices.GROUPS) | {"selection": wrong}
    made = Stage("choose", 1, {"of": [{"selection": dict(wrong)}]})
    choices.check(cfg, [made])
    for others in ([], [Stage("choose", 1, {"of": [{"selection": wrong | {"margin": 0.1}}]})]):
        with pytest.raises(InputError, match="margin"):
            choices.check(cfg, others)


def test_importing_mcr_loads_neither_torch_nor_lightning() -> None:
    script = "import sys, mcr, mcr.app.cli; assert not {'torch', 'pytorch_lightning'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_a_sweep_trains_shared_ends_once_reports_jointly_and_goes_on_after_a_failed_job(tmp_path: Path) -> None:
    """Four jobs, of which two must fail: in what only their training shows."""
    own = ["probes.input.at=5", "probes.input.along=[path]", "report.formats=[png,svg]"]
    words = [*TINY, *own, "training.min_accuracy_over_chance=0,9", "curve=linear,bezier"]
    done = mcr("-m", *words, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("start learned nothing") == 2
    (sweep,) = (tmp_path / "multirun" / "sweeps").iterdir()
    assert {"figure.png", "figure.svg", "barriers.csv", "report.md", "summary.json"} <= {
        p.name for p in sweep.iterdir()
    }
    joint, sound = json.loads((sweep / "summary.json").read_text()), "min_accuracy_over_chance=0"
    assert [job["name"] for job in joint["jobs"]] == [f"{sound}, {curve}" for curve in ("linear", "bezier")]
    assert [(job["job"], job["name"]) for job in joint["failed"]] == [
        (f"{index}", f"min_accuracy_over_chance=9, {curve}") for index, curve in ((2, "linear"), (3, "bezier"))
    ]
    report = (sweep / "report.md").read_text()
    assert f"## {sound}, bezier, input\n" in report
    assert f"| {sound}, bezier | input eigenvalue | " in " ".join(report.split())
    assert "above highest end" in done.stdout
    store = tmp_path / "multirun" / "store"
    assert len(list((store / "train").glob("[!.]*"))) == 2
    assert len(list((store / "connect").glob("[!.]*"))) == 2
    # The run folder links to what it stands on.
    assert (sweep / "1" / "stages" / "train-start" / "network.safetensors").is_file()

    second = mcr("-m", *TINY, *own, "curve=linear,bezier", "training.min_accuracy_over_chance=0", folder=tmp_path)
    assert second.returncode == 0, second.stderr
    assert second.stdout.count("nothing to compute") == 2


@pytest.mark.slow
def test_a_sweep_over_replicates_ends_with_their_spread(tmp_path: Path) -> None:
    words = [*TINY, "curve=linear,bezier", "replicate=0,1", "~reference@references.straight", "logger=wandb"]
    done = mcr("report", "-m", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "multirun" / "sweeps").iterdir()
    joint = json.loads((sweep / "summary.json").read_text())
    assert [job["name"] for job in joint["jobs"]] == [
        f"{c}, replicate={r}" for c in ("linear", "bezier") for r in (0, 1)
    ]
    assert set(joint["replicates"]) == {"linear", "bezier"}
    rises = [job["subspaces"]["path"]["metrics"]["robust_loss"]["interior"] for job in joint["jobs"][2:]]
    assert joint["replicates"]["bezier"]["robust_loss"]["mean"] == pytest.approx(sum(rises) / 2)
    assert "## Over replicates" in (sweep / "report.md").read_text()
    assert "linear, 2 seeds" in done.stdout
    assert "bezier, replicate=0" not in done.stdout  # in the report, not on the terminal
    # First of the closing words, behind what Hydra's launcher says.
    overview = "\n\n4 jobs: 4 finished, 0 failed\ncurve: linear, bezier\nreplicate: 0, 1\n"
    assert overview in done.stdout
    assert done.stdout.index(overview) < done.stdout.index("linear, 2 seeds")
    linear = [job["subspaces"]["path"]["metrics"]["robust_loss"]["interior"] for job in joint["jobs"][:2]]
    with (sweep / "differences.csv").open(encoding="utf-8", newline="") as stream:
        rows = [
            row for row in csv.DictReader(stream) if (row["metric"], row["statistic"]) == ("robust_loss", "interior")
        ]
    assert [(row["level"], row["against"], row["n"]) for row in rows] == [("bezier", "linear", "2")]
    assert float(rows[0]["mean"]) == pytest.approx(sum(rises) / 2 - sum(linear) / 2)
    # How it was made stands in the folders, not in the store.
    assert joint["made"]["command"].startswith("mcr -m report dataset=synthetic ")
    one = (sweep / "0" / "report.md").read_text(encoding="utf-8")
    assert "- Command: `mcr report dataset=synthetic " in one
    stored = (sweep / "0" / "stages" / "report" / "report.md").read_text(encoding="utf-8")
    assert one.startswith(stored)
    assert "How this was made" not in stored
    # The README's pattern for wandb sync finds every run: four ends, two fitted curves, four reports.
    assert len(list(tmp_path.glob("multirun/sweeps/*/*/wandb/offline-run-*"))) == 10


@pytest.mark.slow
def test_a_single_run_says_where_everything_lies(tmp_path: Path) -> None:
    done = mcr("report", *TINY, "logger=wandb", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "multirun" / "runs").iterdir()
    for name in ("figure.png", "report.md", "wandb"):
        assert f"{folder.relative_to(tmp_path)}/{name}" in done.stdout
        assert (folder / name).exists()
    for line in done.stdout.splitlines():
        assert len(line) <= 100
    verbs = mcr("train", *TINY, folder=tmp_path)
    assert verbs.returncode == 0
    assert "evaluate" not in verbs.stdout


def test_a_folder_of_one_s_own_options(tmp_path: Path) -> None:
    (tmp_path / "mine" / "curve").mkdir(parents=True)
    option = "# A chain of my own.\n_target_: mcr.curves.polychain.Polychain\npoints: 4\njoins: 2\nfits: inner\n"
    (tmp_path / "mine" / "curve" / "four.yaml").write_text(option)
    for words in (["--config-dir", "mine"], ["--config-dir=mine"]):
        done = mcr("connect", *words, *TINY, "curve=four", folder=tmp_path)
        assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("multirun/store/connect/[!.]*"))) == 2


def test_odd_folders_and_old_failures(tmp_path: Path) -> None:
    """A root with characters of Hydra's grammar; a folder of the user's that holds an earlier failure."""
    root = tmp_path / "it's (x), y=1"
    root.mkdir()
    bad = mcr(
        "train", *TINY, "training.min_accuracy_over_chance=9", "hydra.run.dir=mine", folder=tmp_path, MCR_ROOT=str(root)
    )
    assert bad.returncode == 2
    assert "learned nothing" in bad.stderr
    assert (tmp_path / "mine" / "failure.txt").is_file()
    good = mcr("train", *TINY, "hydra.run.dir=mine", folder=tmp_path, MCR_ROOT=str(root))
    assert good.returncode == 0, good.stderr
    assert not (tmp_path / "mine" / "failure.txt").exists()
    assert mcr("train", *TINY, folder=tmp_path, MCR_ROOT=str(root)).returncode == 0
    assert len(list(root.glob("runs/*"))) == 1


def test_commands_of_the_same_second_have_their_own_folders(tmp_path: Path) -> None:
    from mcr.app.cli import _new_folder

    assert len({_new_folder(tmp_path) for _ in range(3)}) == 3


def killed_after_an_epoch(words: list[str], folder: Path, stage: str) -> None:
    """Start the command and kill -9 it as soon as the stage has left a checkpoint."""
    process = start(words, folder, folder / "stdout", folder / "stderr", environment())
    pattern = f"multirun/store/{stage}/.partial-*/checkpoints/last.ckpt"
    deadline = time.monotonic() + 120
    while not list(folder.glob(pattern)):
        assert process.exitcode is None, "the process ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.join()
    assert list(folder.glob(pattern))


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_bit_for_bit_the_same(tmp_path: Path) -> None:
    """Killed in an adversarial endpoint (BatchNorm, weight averaging, augmentation), then in the curve."""
    words = [word for word in TINY if not word.startswith("architecture")]
    words += ["architecture=small_vgg", "architecture.width=4", "dataset.images=300", "dataset.split.train=128"]
    words += ["training.epochs=4", "fit.epochs=4", "dataset.augmentation={padding: 1, flip: 0.5}", "attack.steps=3"]
    words += ["endpoint@endpoints.start=adversarial", "endpoints.start.module.ema_decay=0.9", "training.batch_size=4"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    killed_after_an_epoch(["connect", *words], broken, "train")
    assert not list(broken.glob("multirun/store/train/[!.]*"))
    killed_after_an_epoch(["connect", *words], broken, "connect")
    for folder in (whole, broken):
        # Of their own from the first import on: the order of sets differs between them.
        assert fresh("connect", *words, folder=folder).returncode == 0
    found = sorted(path.relative_to(whole) for path in whole.glob("multirun/store/*/[!.]*/*"))
    assert len([path for path in found if path.suffix == ".safetensors"]) == 5
    for path in found:
        if path.name != "stage.json":
            assert (whole / path).read_bytes() == (broken / path).read_bytes(), path


UNRELIABLE = """
import sys

from torch import nn


class Net(nn.Sequential):
    def __init__(self, num_classes, width):
        if width == 2:
            1 / 0
        if width == 3:
            raise ValueError("width 3 is not for me")
        if width == 4:
            sys.exit(1)
        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))
        self.width = width

    def forward(self, images):
        if self.width == 5 and len(images) > 2:
            sys.exit("enough")
        return super().forward(images)
"""


@pytest.mark.slow
def test_a_failure_that_nobody_foresaw_costs_its_own_job_of_a_sweep_alone(tmp_path: Path) -> None:
    (tmp_path / "my_unreliable.py").write_text(UNRELIABLE)
    words = [word for word in TINY if not word.startswith("architecture")]
    words += ["architecture._target_=my_unreliable.Net", "+architecture.width=1,2,3,4,5,6", "logger=none"]
    done = mcr("report", "-m", *words, folder=tmp_path)
    assert done.returncode == 1, done.stderr
    (sweep,) = (tmp_path / "multirun" / "sweeps").iterdir()
    assert [(sweep / job / "summary.json").is_file() for job in "012345"] == [True, *[False] * 4, True]
    assert "mcr: job 1 failed: ZeroDivisionError" in done.stderr
    assert "mcr: job 2 failed: architecture my_unreliable.Net cannot be built: width 3 is not for me" in done.stderr
    assert "job 3 failed: architecture my_unreliable.Net cannot be built: it ends the program with Sys" in done.stderr
    assert "mcr: job 4 failed: " in done.stderr
    assert "my_unreliable.py, line 20 ends the program with SystemExit('enough')" in done.stderr
    assert "interrupted" not in done.stderr
    assert len(json.loads((sweep / "summary.json").read_text())["jobs"]) == 2


def test_a_script_that_ends_the_program_when_it_is_imported_is_refused(tmp_path: Path) -> None:
    (tmp_path / "my_script.py").write_text("import sys\nsys.exit(3)\n")
    words = [word for word in TINY if not word.startswith("architecture")]
    done = mcr("train", *words, "architecture._target_=my_script.Net", folder=tmp_path)
    assert done.returncode == 2
    assert "importing my_script ends the program with SystemExit(3): what it does as a program" in done.stderr


def replicates(count: int) -> Request:
    """A sweep over replicates."""
    cfg = {"verb": "report", "logger": {"kind": "none"}}
    return Request((), (), tuple(Job((f"replicate={number}",), cfg) for number in range(count)), True, False, {})


@pytest.mark.parametrize(
    ("kinds", "count", "status"),
    [
        (["InputError", "ZeroDivisionError"], 2, 1),
        (["ZeroDivisionError", "InputError"], 2, 1),
        (["InputError", "InputError"], 2, 2),
        (["InputError", "ZeroDivisionError"], 1, 2),  # the second is of an earlier, longer sweep in this folder
        ([None, "ZeroDivisionError"], 2, 1),
        ([None, None], 2, 0),
    ],
)
def test_the_worst_failure_of_a_sweep_s_own_jobs_is_its_exit_status(kinds, count, status, tmp_path: Path) -> None:
    for number, kind in enumerate(kinds):
        (tmp_path / str(number) / ".hydra").mkdir(parents=True)
        (tmp_path / str(number) / ".hydra" / "config.yaml").write_text("verb: train\n")
        if kind:
            (tmp_path / str(number) / "failure.txt").write_text(f"{kind}\nwhat was wrong\n")
    assert sweep_module.finish(tmp_path, replicates(count)) == status

"""A step of PGD-10 adversarial training: against a clean step, and against the textbook's form."""

from __future__ import annotations

from benchmarks import subject
from benchmarks.paired import Usual, publish, ratio, timed
from benchmarks.peaks import floors
from benchmarks.reference.training import adversarial_step
from benchmarks.training_step import DTYPES, Measured, over_networks, plain, sgd, stepper
from mcr.objectives.adversarial import Adversarial
from mcr.objectives.cross_entropy import CrossEntropy

REPEATS = {"preresnet26": 11, "small_vgg": 15}
# Of the published code's network; with a smaller one what is no convolution weighs more.
OVER_CLEAN = {"preresnet26": 8.2, "small_vgg": None}
CLEAN_STEPS = 3  # in one timing, so that it is not much shorter than the other's


def measure(name: str, repeats: int) -> Measured:
    """Rows, jobs whose floor is wanted, and seconds of one network."""
    images, labels = subject.images()
    network = subject.network(name)
    optimizer = sgd(network.parameters())
    attack = Adversarial(subject.pgd())
    clean = stepper(plain(name, CrossEntropy()), "fp32")
    forms = {
        f"{name}, PGD-10, textbook": Usual(
            lambda: adversarial_step(network, optimizer, images, labels, subject.EPS, subject.STEP, subject.STEPS)
        ),
        f"{name}, clean, fp32": lambda: [clean() for _ in range(CLEAN_STEPS)],
        f"{name}, PGD-10, fp32": stepper(plain(name, attack), "fp32"),
        f"{name}, PGD-10, bf16": stepper(plain(name, attack), "bf16"),
    }
    times = timed(forms, repeats)
    times[f"{name}, clean, fp32"] = [seconds / CLEAN_STEPS for seconds in times[f"{name}, clean, fp32"]]
    rows = [
        ratio(times, f"{name}, PGD-10, fp32", f"{name}, clean, fp32", OVER_CLEAN[name], "floor 7.7"),
        ratio(times, f"{name}, PGD-10, fp32", f"{name}, PGD-10, textbook"),
        ratio(times, f"{name}, PGD-10, bf16", f"{name}, PGD-10, textbook", 0.50),
    ]
    steps = [(precision, forms[f"{name}, PGD-10, {precision}"]) for precision in DTYPES]
    return rows, {f"{name}, {precision}": (step, DTYPES[precision]) for precision, step in steps}, times


def main() -> None:
    rows, jobs, times = over_networks(measure, REPEATS)
    what = (
        f"One step of PGD-{subject.STEPS} adversarial training on {subject.BATCH} images 32x32; textbook: float32, "
        "NCHW, BatchNorm in evaluation mode under attack, parameters not frozen."
    )
    publish("adversarial_step", what, rows, floors(jobs), times)


if __name__ == "__main__":
    main()

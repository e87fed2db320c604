"""Robust loss and accuracy under PGD-10: this package's forms against the straightforward loop."""

from __future__ import annotations

import copy

import torch

from benchmarks import subject
from benchmarks.paired import Row, Usual, publish, ratio, timed
from benchmarks.reference.pgd import robust_loss
from mcr.numerics.precision import Precision
from mcr.numerics.seeding import generator
from mcr.probes.risk import risk
from mcr.probes.robust_risk import robust_accuracy, robust_risk

IMAGES = 1536
LITTLE = 15  # training steps after which about 30 % of the images withstand the attack
TEXTBOOK, LOSS = "loss, textbook, fp32 NCHW", "loss, bf16 gradients, scored in fp32"
TUNED = "loss, textbook, with this package's memory settings"
EARLY = "accuracy only, early stop, bf16 confirmed in fp32"


def main(repeats: int = 5) -> None:
    network = subject.trained(LITTLE)
    pixels, labels = subject.images(IMAGES)
    textbook = copy.deepcopy(network)
    network.to(memory_format=torch.channels_last)
    last = pixels.contiguous(memory_format=torch.channels_last)
    theirs = list(zip(pixels.split(subject.BATCH), labels.split(subject.BATCH), strict=True))
    ours = list(zip(last.split(subject.BATCH), labels.split(subject.BATCH), strict=True))
    losses: dict[str, float] = {}
    accuracies: dict[str, float] = {}

    def reference() -> None:
        torch.manual_seed(0)
        parts = [robust_loss(textbook, *batch, subject.EPS, subject.STEP, subject.STEPS) for batch in theirs]
        losses[TEXTBOOK] = float(torch.cat([part[0] for part in parts]).mean())
        accuracies[TEXTBOOK] = float(torch.cat([part[1] for part in parts]).mean())

    def full(name: str, precision: Precision) -> None:
        found = robust_risk(network, ours, subject.pgd(), generator(0, "attack"), precision, 0)
        losses[name], accuracies[name] = float(found.losses.mean()), float(found.hits.mean())

    def early(name: str, precision: Precision) -> None:
        hits = robust_accuracy(network, ours, subject.pgd(), generator(0, "attack"), precision)
        accuracies[name] = float(hits.mean())

    forms = {
        TEXTBOOK: Usual(reference),
        TUNED: reference,
        "loss, fp32": lambda: full("loss, fp32", "fp32"),
        LOSS: lambda: full(LOSS, "bf16"),
        "accuracy only, early stop, fp32": lambda: early("accuracy only, early stop, fp32", "fp32"),
        EARLY: lambda: early(EARLY, "bf16"),
    }
    times = timed(forms, repeats)
    targets = {"loss, fp32": 0.85, LOSS: 0.55, EARLY: 0.30}
    rows = [ratio(times, name, TEXTBOOK, targets.get(name)) for name in forms if name != TEXTBOOK]
    rows.append(ratio(times, EARLY, TUNED))
    for name, value in losses.items():
        if name != TEXTBOOK:
            away = abs(value / losses["loss, fp32"] - 1)
            target = 1e-3 if name == LOSS else None
            rows += [Row(name, "loss, relative to fp32's", (away,) * 3, target)] if target else []
    points = 100 * abs(accuracies[EARLY] - accuracies["loss, fp32"])
    rows.append(Row(EARLY, "points of accuracy away from full PGD", (points,) * 3, 0.5))
    facts = {f"robust loss, {name}": f"{value:.4f}" for name, value in losses.items()}
    facts |= {f"robust accuracy, {name}": f"{value:.4f}" for name, value in accuracies.items()}
    clean, robust = float(risk(network, ours)[1].mean()), 100 * accuracies["loss, fp32"]
    what = (
        f"PGD-{subject.STEPS} on {IMAGES} images 32x32 in batches of {subject.BATCH}, small_vgg width 32 trained on "
        f"enlarged digits until {robust:.0f} % withstand the attack; {100 * clean:.0f} % are right without one."
    )
    publish("pgd_evaluation", what, rows, facts, times)


if __name__ == "__main__":
    main()

"""PGD-10 evaluation of a batch: this package's forms against the straightforward loop."""

from __future__ import annotations

import copy

import torch

from benchmarks import subject
from benchmarks.paired import paired, publish
from benchmarks.reference.pgd import robust_loss
from mcr.attacks.pgd import Pgd
from mcr.probes.robust_risk import Precision, robust_accuracy, robust_risk
from mcr.seeding import generator


def main(repeats: int = 7) -> None:
    network = subject.trained()
    pixels, labels = (part[: subject.BATCH] for part in subject.images())
    textbook = copy.deepcopy(network)
    network.to(memory_format=torch.channels_last)
    pixels_last = pixels.contiguous(memory_format=torch.channels_last)
    eps, step, steps = subject.EPS, subject.STEP, subject.STEPS
    attack = Pgd(eps=eps, step_size=step, steps=steps, norm="linf", start="random", restarts=1)
    found: dict[str, float] = {}

    def reference() -> None:
        losses, hits = robust_loss(textbook, pixels, labels, eps, step, steps)
        found["textbook: loss"], found["textbook: robust accuracy"] = float(losses.mean()), float(hits.mean())

    def ours(precision: Precision) -> None:
        attacked = robust_risk(network, [(pixels_last, labels)], attack, generator(0, "attack"), precision, 0)
        found[f"{precision}: loss"] = float(attacked.losses.mean())
        found[f"{precision}: robust accuracy"] = float(attacked.hits.mean())

    def early(precision: Precision) -> None:
        hits = robust_accuracy(network, [(pixels_last, labels)], attack, generator(0, "attack"), precision)
        found[f"early stop, {precision}: robust accuracy"] = float(hits.mean())

    rows = paired(
        {
            "textbook, fp32 NCHW": reference,
            "fp32": lambda: ours("fp32"),
            "bf16 gradients, scored in fp32": lambda: ours("bf16"),
            "accuracy only, early stop, fp32": lambda: early("fp32"),
            "accuracy only, early stop, bf16 confirmed in fp32": lambda: early("bf16"),
        },
        {"fp32": 0.85, "bf16 gradients, scored in fp32": 0.55},
        repeats,
    )
    what = f"PGD-{steps} on {subject.BATCH} images 32x32, small_vgg width 32 trained on enlarged digits."
    publish("pgd_evaluation", what, rows, {name: f"{value:.4f}" for name, value in found.items()})


if __name__ == "__main__":
    main()

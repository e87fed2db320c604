"""The largest input-Hessian eigenvalue of every image: the exact form against ten power iterations."""

from __future__ import annotations

import copy

import torch

from benchmarks import subject
from benchmarks.paired import publish, ratio, timed
from benchmarks.peaks import floors
from benchmarks.reference.power_iteration import power_iteration
from mcr.attacks.frozen import frozen
from mcr.numerics.seeding import generator
from mcr.probes.input_hessian import exact, lanczos

IMAGES = 64
EXACT, POWER = "exact, 9 vector-Jacobian products", "10 power iterations, batched, parameters frozen"


def main(repeats: int = 7) -> None:
    network = subject.trained()
    pixels, labels = subject.images(IMAGES)
    with frozen(network):
        wide = copy.deepcopy(network).double()
        with frozen(wide):
            truth = exact(wide, pixels.double(), labels).eigenvalue

        def error(values: torch.Tensor) -> str:
            relative = (values.double() / truth - 1).abs()
            return f"median {float(relative.median()):.1e}, largest {float(relative.max()):.1e}"

        forms = {
            POWER: lambda: power_iteration(network, pixels, labels, 10),
            EXACT: lambda: exact(network, pixels, labels).eigenvalue,
            "Lanczos, 10 products": lambda: lanczos(network, pixels, labels, 10, generator(0, "first")).eigenvalue,
        }
        times = timed(forms, repeats)
        rows = [ratio(times, EXACT, POWER, 0.33), ratio(times, "Lanczos, 10 products", POWER)]
        facts = {f"relative error to float64, {name}": error(form()) for name, form in forms.items()}
        facts |= floors({"exact": (forms[EXACT], torch.float32)})
    what = f"Largest input-Hessian eigenvalue of {IMAGES} images 32x32 in float32, small_vgg width 32, 10 classes."
    publish("input_eigenvalue", what, rows, facts, times)


if __name__ == "__main__":
    main()

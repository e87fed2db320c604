"""What a report says of how the curvature in the image was measured, and how exact it is. No torch."""

from __future__ import annotations

from mcr.evaluation.measured import Measured

# By the number in the probe's column "method" (mcr.probes.input_curvature.METHODS).
METHODS = (
    "exact, as the network is piecewise linear in its input",
    "by Lanczos",
    "by Lanczos on differences of the gradient, as torch cannot differentiate this network twice",
)


def sections(measured: Measured) -> list[str]:
    """One line for each probe of the curvature: the method, and the largest residual over images and places.

    Its columns tell such a probe, a user's own as well.
    """
    lines = []
    for probe, one in measured.measures.items():
        known = [f"{probe}_{name}" for name in ("method", "residual", "relative_residual")]
        if not all(name in one.values for name in known):
            continue
        method, residual, relative = (one.values[name] for name in known)
        found = int(method.max())
        error = (
            f"; the largest residual |Hv - λv| is {residual.max():.1e}, relative to |λ| {relative.max():.1e} "
            f"(median {sorted(relative.flatten())[relative.size // 2]:.1e})"
        )
        lines.append(f"- {probe}, {one.images} images: {METHODS[found]}{error if found else ''}.")
    return ["## Curvature in the input\n\n" + "\n".join(lines) + "\n"] if lines else []

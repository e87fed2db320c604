"""How far the networks lie apart that a subspace joins, and the paths of least loss between them. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from mcr.evaluation.measured import Measured
from mcr.evaluation.routes import Route
from mcr.evaluation.table import markdown
from mcr.metric import Metric
from mcr.text import markdown_cell

ROUTES = (
    "Least route: the highest value along the path of least loss over the grid of places, minus that of the higher of "
    "its two networks; straight: the same along the straight segment of the domain between the two. 0: the networks "
    "are joined without a rise."
)


def distances(one: Measured) -> list[dict[str, float | str]]:
    """Of each network its norm and its distance from every other one, over all parameters: one row a network."""
    rows = one.table().rows
    places = {name: rows[corner] for name, corner in zip(one.grid.ends, one.grid.corners, strict=True)}
    return [
        {"network": name, "norm": row["norm"], **{other: row[f"distance_to_{other}"] for other in places}}
        for name, row in places.items()
    ]


def apart(one: Measured) -> float:
    """The largest distance between two of the networks, as a share of their mean norm."""
    rows = distances(one)
    largest = max(float(first[str(second["network"])]) for first, second in combinations(rows, 2))
    return largest / (sum(float(row["norm"]) for row in rows) / len(rows))


def near(one: Measured, least: float) -> list[str]:
    """A warning where the networks are hardly apart.

    Args:
        one: The subspace.
        least: Share of their norm that they have to be apart.
    """
    share = apart(one)
    if share >= least:
        return []
    return [
        f"the networks lie at most {100 * share:.3g} % of their norm apart: that no loss rises between them says little"
    ]


def distances_section(one: Measured) -> str:
    """Norms and distances as a Markdown table, and how far that is."""
    rows = distances(one)
    names = [str(row["network"]) for row in rows]
    text = [[str(row["network"]), *(f"{float(row[key]):.2f}" for key in ("norm", *names))] for row in rows]
    table = markdown(["network", "norm", *(f"to {name}" for name in names)], text)
    return f"## Networks\n\n{table}\n\nThe two farthest lie {100 * apart(one):.3g} % of their mean norm apart.\n"


def routes_section(metrics: Sequence[Metric], found: Mapping[str, Sequence[Route]]) -> str:
    """The least routes as a Markdown table.

    Args:
        metrics: That are told.
        found: Cost to the routes.
    """
    rows = [
        [
            metric.title(metric.cost),
            " - ".join(route.ends),
            metric.text(route.rise, "+"),
            metric.text(route.straight, "+"),
        ]
        for metric in metrics
        for route in found.get(metric.cost, ())
    ]
    table = markdown(["metric", "networks", "least route", "straight"], rows)
    return f"## Paths of least loss\n\n{table}\n\n{markdown_cell(ROUTES)}\n"


def steepest(found: Sequence[Route]) -> Sequence[int]:
    """The places of the route that gains most over the straight segment; nothing where there is no route."""
    best = max(found, key=lambda route: route.straight - route.rise, default=None)
    return best.places if best is not None else ()

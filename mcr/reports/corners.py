"""How far the networks lie apart that a subspace joins, and the paths of least loss between them. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

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


@dataclass(frozen=True)
class Network:
    """Where a network lies in weight space.

    Attributes:
        name: What people call it.
        norm: Of all its parameters (L2).
        distances: Name of each network, itself among them, to the distance from it (L2).
    """

    name: str
    norm: float
    distances: Mapping[str, float]


def networks(one: Measured) -> list[Network]:
    """Those that a subspace joins."""
    rows = one.table().rows
    places = {name: rows[corner] for name, corner in zip(one.grid.ends, one.grid.corners, strict=True)}
    return [
        Network(name, row["norm"], {other: row[f"distance_to_{other}"] for other in places})
        for name, row in places.items()
    ]


def apart(found: Sequence[Network]) -> float:
    """The largest distance between two networks, as a share of their mean norm."""
    largest = max(distance for one in found for distance in one.distances.values())
    return largest / fmean(one.norm for one in found)


def nearest(one: Measured) -> float:
    """How far the places between the networks lie from the nearest of these, the median, as a share of the mean norm.

    On a straight line between two networks a quarter of what these are apart: what lies nearer tells less that is new.
    """
    rows, found = one.table().rows, networks(one)
    between = [min(rows[index][f"distance_to_{network.name}"] for network in found) for index in one.grid.inner]
    return median(between) / fmean(network.norm for network in found)


def near(found: Sequence[Network], least: float) -> list[str]:
    """A warning where networks are hardly apart.

    Args:
        found: The networks.
        least: Share of their norm that they have to be apart.
    """
    share = apart(found)
    if share >= least:
        return []
    return [
        f"the networks lie at most {100 * share:.3g} % of their norm apart: that no loss rises between them says little"
    ]


def nearest_line(spaces: Sequence[Measured]) -> str:
    """How far from the networks the subspaces go."""
    said = ", ".join(f"{100 * nearest(one):.3g} % ({markdown_cell(one.label)})" for one in spaces)
    return f"Of the places between them half lie nearer to a network than: {said}.\n"


def distances_section(found: Sequence[Network]) -> str:
    """Norms and distances as a Markdown table, and how far that is."""
    text = [[one.name, *(f"{value:.2f}" for value in (one.norm, *one.distances.values()))] for one in found]
    table = markdown(["network", "norm", *(f"to {one.name}" for one in found)], text)
    return f"## Networks\n\n{table}\n\nThe two farthest lie {100 * apart(found):.3g} % of their mean norm apart.\n"


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

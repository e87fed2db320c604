"""Laws of transforms: those of every option of conf/transform, and each kind's own, against slow twins."""

from __future__ import annotations

import doctest
import importlib
import itertools
import pkgutil
from fractions import Fraction
from math import floor
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import mcr.transforms
from mcr.app.composition import conf_folder
from mcr.errors import InputError
from mcr.transforms.magnitude import Magnitude
from mcr.transforms.quantise import Quantise
from mcr.weightspace.layout import Layout
from mcr.weightspace.transform import Transform


def quantise(levels: int, relaxed: float = 0.0, weakest: float = 1.0, strongest: float = 350.0) -> Quantise:
    return Quantise(levels, relaxed, weakest, strongest)


FILES = sorted((Path(conf_folder()) / "transform").glob("*.yaml"))


def options() -> dict[str, Transform]:
    """What every option that does something builds."""
    found = {}
    for path in FILES:
        config = yaml.safe_load(path.read_text())
        if config:
            found[path.stem] = pkgutil.resolve_name(config.pop("_target_"))(**config)
    return found


def after(transform: Transform, theta: Tensor, layout: Layout) -> Tensor:
    changed = theta.clone()
    joined(transform, layout).apply_(changed, layout)
    return changed


def joined(transform: Transform, layout: Layout) -> Transform:
    """The transform of a subspace through two networks, half of whose weights are zero."""
    plain = Layout(layout.names, layout.shapes, False)
    ends = [layout.pack(plain.views(weights(plain, seed).clamp(min=0))) for seed in (7, 8)]
    return transform.joining(ends, layout)


TRANSFORMS = options() | {f"magnitude {share}": Magnitude(share) for share in (0.0, 0.2, 0.95)}
LEVELS = (2, 3, 5, 15)
TRANSFORMS |= {f"quantise {levels}": quantise(levels) for levels in LEVELS}
every = pytest.mark.parametrize(
    "transform", [pytest.param(transform, id=name) for name, transform in TRANSFORMS.items()]
)
formats = pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(20, 4))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weights(layout: Layout, seed: int = 0) -> Tensor:
    return torch.randn(layout.size, generator=generator(seed))


# ------------------------------------------------------------------------------------------- every transform


def test_no_transform_is_an_empty_mapping() -> None:
    assert yaml.safe_load((Path(conf_folder()) / "transform" / "none.yaml").read_text()) == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_option_describes_itself_and_comments_on_every_key(path: Path) -> None:
    first, *lines = path.read_text().splitlines()
    assert first.startswith("# ")
    keys = [line for line in lines if not line.startswith(("_target_", "{}"))]
    assert all("  # " in line for line in keys), keys


@every
@formats
def test_twice_is_once(transform: Transform, memory_format: str) -> None:
    layout = Layout.of(network(), memory_format)
    once = after(transform, weights(layout), layout)
    assert torch.equal(after(transform, once, layout), once)


@every
def test_the_result_does_not_depend_on_the_memory_format(transform: Transform) -> None:
    state = network().state_dict()
    results = []
    for memory_format in ("contiguous", "channels_last"):
        layout = Layout.of(network(), memory_format)
        # Rounded, so that many weights are equal: which of them go is the same too.
        theta = (layout.pack(state) * 8).round()
        results.append(layout.views(after(transform, theta, layout)))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


@every
@formats
def test_both_methods_work_in_place_and_keep_shape_and_type(transform: Transform, memory_format: str) -> None:
    layout = Layout.of(network(), memory_format)
    for dtype in (torch.float32, torch.float64):
        made = joined(transform, layout)
        for method in (made.apply_, made.pull_):
            vector = weights(layout).to(dtype)
            place = vector.data_ptr()
            assert method(vector, layout) is None
            assert (vector.data_ptr(), vector.dtype, vector.shape) == (place, dtype, (layout.size,))
            assert vector.isfinite().all()


@every
def test_pulling_back_is_linear(transform: Transform) -> None:
    """As the transpose of a derivative is; a straight-through form too."""
    layout = Layout.of(network(), "contiguous")
    first, second = weights(layout, 1).double(), weights(layout, 2).double()
    both = 2 * first - second
    for vector in (first, second, both):
        joined(transform, layout).pull_(vector, layout)
    torch.testing.assert_close(both, 2 * first - second, rtol=0, atol=1e-12)


@pytest.mark.parametrize("module", [found.name for found in pkgutil.iter_modules(mcr.transforms.__path__)])
def test_the_examples_in_the_docstrings_hold(module: str) -> None:
    assert doctest.testmod(importlib.import_module(f"mcr.transforms.{module}")).failed == 0


# ------------------------------------------------------------------------------------------- magnitude


def pruned(theta: Tensor, layout: Layout, share: float) -> dict[str, Tensor]:
    """Sort all weights by size and order, zero the first: the slow twin."""
    views = {name: view.clone() for name, view in layout.views(theta).items()}
    ranked = [
        (abs(value), order, name, index)
        for order, (name, view) in enumerate(views.items())
        if view.dim() >= 2
        for index, value in enumerate(view.flatten().tolist())
    ]
    ranked.sort(key=lambda entry: (entry[0], entry[1], entry[3]))
    for _, _, name, index in ranked[: floor(Fraction(str(share)) * len(ranked))]:
        place = torch.unravel_index(torch.tensor(index), views[name].shape)
        views[name][place] = 0
    return views


@formats
@given(share=st.floats(0, 1, exclude_max=True), seed=st.integers(0, 9), levels=st.sampled_from([1, 3, 1000]))
def test_magnitude_equals_sorting(memory_format: str, share: float, seed: int, levels: int) -> None:
    """With few levels most weights are equal to others."""
    layout = Layout.of(network(), memory_format)
    theta = (weights(layout, seed) * levels).round() / levels
    found = layout.views(after(Magnitude(share), theta, layout))
    expected = pruned(theta, layout, share)
    assert all(torch.equal(found[name], expected[name]) for name in layout.names)


@formats
@pytest.mark.parametrize("share", [0.0, 0.001, 0.29, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("constant", [False, True])
def test_exactly_the_share_is_zeroed_and_biases_stay(memory_format: str, share: float, constant: bool) -> None:
    layout = Layout.of(network(), memory_format)
    theta = torch.full((layout.size,), -0.5) if constant else weights(layout)
    before, views = layout.views(theta), layout.views(after(Magnitude(share), theta, layout))
    large = [name for name, shape in zip(layout.names, layout.shapes, strict=True) if len(shape) >= 2]
    count = sum(views[name].numel() for name in large)
    assert large == ["0.weight", "4.weight"]
    assert sum(int((views[name] == 0).sum()) for name in large) == floor(Fraction(str(share)) * count)
    assert all(torch.equal(views[name], before[name]) for name in layout.names if name not in large)
    kept = torch.cat([views[name][views[name] != 0] for name in large])
    original = torch.cat([before[name][views[name] != 0] for name in large])
    assert torch.equal(kept, original)


def test_a_share_means_its_decimals() -> None:
    """0.29 * 100 lies below 29 in floating point."""
    layout = Layout.of(nn.Linear(10, 10, bias=False), "contiguous")
    assert int((after(Magnitude(0.29), weights(layout), layout) == 0).sum()) == 29


def test_one_threshold_serves_the_whole_network() -> None:
    """A layer of small weights goes first, whole: 80 of 215."""
    layout = Layout.of(network(), "contiguous")
    theta = weights(layout).abs() + 1
    layout.views(theta)["4.weight"].mul_(1e-3)
    views = layout.views(after(Magnitude(0.375), theta, layout))
    assert not views["4.weight"].any()
    assert views["0.weight"].all()


def test_gradients_pass_straight_through() -> None:
    layout = Layout.of(network(), "contiguous")
    gradient = weights(layout)
    expected = gradient.clone()
    Magnitude(0.9).pull_(gradient, layout)
    assert torch.equal(gradient, expected)


def test_a_network_without_weights_stays() -> None:
    layout = Layout.of(nn.BatchNorm1d(3), "contiguous")
    theta = weights(layout)
    assert torch.equal(after(Magnitude(0.9), theta, layout), theta)


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan")])
def test_a_share_outside_its_range_is_refused(share: float) -> None:
    with pytest.raises(InputError, match=rf"share={share} must lie in \[0, 1\)"):
        Magnitude(share)


# ------------------------------------------------------------------------------------------- quantise

SIX = Layout(("weight",), ((2, 3),), False)
# One of each pair of patterns that differ in sign alone is enough, and the scale has either sign.
PATTERNS = {
    levels: torch.tensor(list(itertools.product(values, repeat=6)), dtype=torch.float64)
    for levels, values in {2: (-1, 1), 3: (-1, 0, 1), 5: (-2, -1, 0, 1, 2)}.items()
}


@pytest.mark.parametrize("levels", PATTERNS)
@given(found=st.lists(st.floats(-4, 4, width=32), min_size=6, max_size=6))
def test_no_tensor_of_so_many_values_is_nearer(levels: int, found: list[float]) -> None:
    theta = torch.tensor(found)
    nearest = after(quantise(levels), theta, SIX).double()
    error = float((nearest - theta).square().sum())
    patterns, aim = PATTERNS[levels], theta.double()
    # The best scale of a pattern is a projection onto its line.
    left = aim.square().sum() - (patterns @ aim).square() / patterns.square().sum(1).clamp(min=1)
    assert error <= float(left.min()) + 1e-5
    assert error >= float(left.min()) - 1e-5  # it is one of them


@pytest.mark.parametrize("levels", [7, 15])
def test_no_scale_on_a_fine_grid_is_nearer(levels: int) -> None:
    theta = torch.randn(6, generator=generator(levels))
    error = float((after(quantise(levels), theta, SIX) - theta).double().square().sum())
    most = levels // 2
    for scale in torch.linspace(1e-3, float(theta.abs().max()) * 2, 20_000, dtype=torch.float64):
        rounded = (theta / scale).round().clamp(-most, most) * scale
        assert error <= float((rounded - theta).square().sum()) + 1e-9


@pytest.mark.parametrize("levels", LEVELS)
def test_weights_times_four_have_values_times_four(levels: int) -> None:
    layout = Layout.of(network(), "contiguous")
    theta = weights(layout)
    assert torch.equal(_weights(4 * theta, levels, layout), 4 * _weights(theta, levels, layout))


def _weights(theta: Tensor, levels: int, layout: Layout) -> Tensor:
    views = layout.views(after(quantise(levels), theta, layout)).values()
    return torch.cat([view.flatten() for view in views if view.dim() >= 2])


@pytest.mark.parametrize("levels", LEVELS)
def test_every_tensor_has_a_scale_of_its_own_and_the_rest_stays(levels: int) -> None:
    layout = Layout.of(network(), "contiguous")
    theta = weights(layout)
    quantised = layout.views(after(quantise(levels), theta, layout))
    scales = set()
    for name, view in layout.views(theta).items():
        if view.dim() < 2:
            assert torch.equal(quantised[name], view)
            continue
        sizes = sorted(set(quantised[name].abs().flatten().tolist()) - {0.0})
        assert len(set(quantised[name].flatten().tolist())) <= levels
        assert (0.0 in quantised[name]) == (levels > 2)
        assert [size / sizes[0] for size in sizes] == [round(size / sizes[0]) for size in sizes]
        assert len(sizes) == levels // 2
        assert (quantised[name] * view >= 0).all()
        scales.add(sizes[0])
    assert len(scales) == 2


@pytest.mark.parametrize("levels", LEVELS)
def test_weights_that_are_nothing_stay_nothing(levels: int) -> None:
    assert after(quantise(levels), torch.zeros(6), SIX).abs().sum() == 0


def test_more_values_come_nearer_and_the_rule_of_published_code_does_not() -> None:
    """A threshold at 0.7 of the mean size, and the scale averaged over all weights, zeros included."""
    theta = torch.randn(6, generator=generator())
    errors = [float((after(quantise(levels), theta, SIX) - theta).square().sum()) for levels in (3, 5, 7, 15)]
    assert errors == sorted(errors, reverse=True)
    kept = theta.abs() > 0.7 * theta.abs().mean()
    published = theta.sign() * kept * (theta.abs() * kept).mean()
    assert float((published - theta).square().sum()) > 1.2 * errors[0]


@pytest.mark.parametrize("levels", [2, 3, 7])
@pytest.mark.parametrize("eta", [0.1, 1.0, 40.0])
def test_weights_that_are_drawn_minimise_both_distances(levels: int, eta: float) -> None:
    """argmin |x - w|^2 + eta |x - Q(w)|^2, Yin et al. (2018): its gradient is nothing there."""
    theta = torch.randn(6, generator=generator(3)).double()
    found, quantised = after(quantise(levels, 0.5, eta, eta).at(0.2), theta, SIX), after(quantise(levels), theta, SIX)
    torch.testing.assert_close((found - theta) + eta * (found - quantised), torch.zeros_like(theta))


def test_the_draw_grows_geometrically_to_its_end_and_then_weights_are_quantised() -> None:
    whole = quantise(3, 0.6, 2.0, 50.0)
    etas = [vars(whole.at(progress))["eta"] for progress in (0.0, 0.3, 0.6 - 1e-12)]
    assert etas == pytest.approx([2.0, 10.0, 50.0])
    assert whole.at(0.6) is whole
    assert whole.at(1.0) is whole
    assert quantise(3).at(0.0).at(0.0) == quantise(3)


@pytest.mark.parametrize("levels", [0, 1, 4, 17, 2.5])
def test_other_numbers_of_values_are_refused(levels: float) -> None:
    with pytest.raises(InputError, match=f"levels={levels} must be 2, or an odd number from 3 to 15"):
        quantise(levels)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "numbers", [(-0.1, 1, 2), (1.1, 1, 2), (0.5, 0, 2), (0.5, 3, 2), (0.5, 1, float("inf")), (float("nan"), 1, 2)]
)
def test_a_draw_that_cannot_grow_is_refused(numbers: tuple[float, float, float]) -> None:
    with pytest.raises(InputError, match="needed"):
        quantise(3, *numbers)

"""Laws of backdoors: what a trigger changes, whose label it wants, and which images are poisoned."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mcr.backdoors.adaptive_patch import AdaptivePatch
from mcr.backdoors.backdoor import Backdoor
from mcr.backdoors.badnets import BadNets
from mcr.backdoors.blended import Blended
from mcr.backdoors.bpp import Bpp
from mcr.backdoors.ftrojan import FTrojan
from mcr.backdoors.poisoning import attackable, choose, choose_clean, shares
from mcr.backdoors.sinusoidal import Sinusoidal
from mcr.backdoors.wanet import WaNet
from mcr.errors import InputError
from mcr.numerics.seeding import generator

SHAPES = [(5, 1, 8, 8), (5, 3, 32, 32), (2, 3, 8, 32)]


def badnets(**changes) -> BadNets:
    usual = {"target": 1, "size": 3, "row": -4, "column": -4, "colour": 1.0}
    return BadNets(**(usual | changes))


def blended(**changes) -> Blended:
    return Blended(**({"target": 1, "strength": 0.2, "seed": 0} | changes))


def sinusoidal(**changes) -> Sinusoidal:
    return Sinusoidal(**({"target": 1, "strength": 20 / 255, "frequency": 6} | changes))


def wanet(**changes) -> WaNet:
    return WaNet(**({"target": 1, "strength": 1.0, "grid": 4, "seed": 0} | changes))


def bpp(**changes) -> Bpp:
    return Bpp(**({"target": 1, "levels": 8} | changes))


def ftrojan(**changes) -> FTrojan:
    return FTrojan(**({"target": 1, "strength": 100, "block": 32, "coefficients": [[15, 15], [31, 31]]} | changes))


def adaptive_patch(**changes) -> AdaptivePatch:
    usual = {"target": 1, "size": 2, "places": [[1, 1], [-3, 2], [4, 4]], "colours": [1.0, 0.2, 0.7]}
    return AdaptivePatch(**(usual | {"opacities": [0.5, 0.2, 1.0], "shown": [0, 2], "opacity": 1.0} | changes))


TRIGGERS = [
    badnets(),
    badnets(target="next", size=2, row=0, column=1, colour=0.3),
    blended(),
    blended(strength=1.0, seed=5),
    sinusoidal(),
    sinusoidal(strength=1.0, frequency=0.5),
    wanet(),
    wanet(strength=20, grid=2, seed=5),
    bpp(),
    bpp(levels=2),
    ftrojan(),
    ftrojan(strength=200, block=3, coefficients=[[2, 0]]),
    adaptive_patch(),
    adaptive_patch(size=4, target="next", opacity=0.6),
]
every_trigger = pytest.mark.parametrize("trigger", TRIGGERS, ids=repr)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def draw(shape: tuple[int, ...]) -> torch.Tensor:
    """Random pixels, the extremes among them."""
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(0, "images", shape))
    images[0], images[1] = 0, 255
    return images


@every_trigger
@every_shape
def test_a_stamp_changes_its_copy_alone_and_the_same_way_each_time(trigger: Backdoor, shape) -> None:
    images = draw(shape)
    before = images.clone()
    stamped = trigger.stamp(images)
    assert torch.equal(images, before)
    assert (stamped.dtype, stamped.shape, stamped.device) == (torch.uint8, images.shape, images.device)
    assert stamped.data_ptr() != images.data_ptr()
    assert (stamped != images).flatten(1).any(1)[2:].all()
    torch.manual_seed(1)  # nothing follows the global generator
    assert torch.equal(trigger.stamp(images), stamped)
    assert torch.equal(type(trigger)(**vars(trigger)).stamp(images), stamped)


@every_trigger
@every_shape
def test_a_stamp_depends_on_the_image_alone(trigger: Backdoor, shape) -> None:
    images = draw(shape)
    whole = trigger.stamp(images)
    assert torch.equal(torch.cat([trigger.stamp(one) for one in images.split(1)]), whole)
    assert torch.equal(trigger.stamp(images.flip(0)), whole.flip(0))
    assert torch.equal(trigger.stamp(images[:1].expand(3, -1, -1, -1)), whole[:1].expand(3, -1, -1, -1))
    assert torch.equal(trigger.stamp(images.to(memory_format=torch.channels_last)), whole)
    assert trigger.stamp(images[:0]).shape == images[:0].shape


@every_trigger
def test_a_stamp_stays_on_the_device_of_its_images(trigger: Backdoor) -> None:
    assert trigger.stamp(draw(SHAPES[0]).to("meta")).device == torch.device("meta")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_trigger
@every_shape
def test_every_device_gives_the_same_stamp(trigger: Backdoor, shape) -> None:
    images = draw(shape)
    assert torch.equal(trigger.stamp(images.cuda()).cpu(), trigger.stamp(images))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 32])
def test_badnets_touches_the_patch_and_nothing_else(channels: int, side: int) -> None:
    images = draw((4, channels, side, side))
    stamped = badnets(colour=0.5).stamp(images)
    for place in range(side * side):
        row, column = divmod(place, side)
        inside = side - 4 <= row <= side - 2 and side - 4 <= column <= side - 2
        expected = torch.full_like(images[:, :, row, column], 128) if inside else images[:, :, row, column]
        assert torch.equal(stamped[:, :, row, column], expected)


def test_badnets_counts_from_both_edges_and_fills_up_to_them() -> None:
    images = draw((3, 1, 8, 32))
    assert torch.equal(badnets(row=4, column=28).stamp(images), badnets().stamp(images))
    corner = badnets(row=-3, column=-3).stamp(images)
    assert (corner[:, :, 5:, 29:] == 255).all()
    assert torch.equal(corner[:, :, :5], images[:, :, :5])
    assert (badnets(size=8, row=0, column=0, colour=0).stamp(images)[..., :8] == 0).all()


def test_badnets_colours_each_channel() -> None:
    stamped = badnets(colour=[0, 0.5, 1]).stamp(draw((2, 3, 8, 8)))
    assert stamped[1, :, 5, 5].tolist() == [0, 128, 255]


@every_shape
@pytest.mark.parametrize("strength", [0.05, 0.2, 0.7, 1.0])
def test_blended_is_the_mixture_in_float64(shape, strength: float) -> None:
    images = draw(shape)
    pattern = torch.rand(shape[1:], generator=generator(3, "blended")).double() * 255
    exact = (1 - strength) * images.double() + strength * pattern
    stamped = blended(strength=strength, seed=3).stamp(images).double()
    # The nearest whole number; where two are as near, float32 may take the other.
    assert (stamped - exact).abs().max() <= 0.5 + 1e-4
    assert not torch.equal(blended(strength=strength, seed=4).stamp(images).double(), stamped)


@every_shape
@pytest.mark.parametrize(("strength", "frequency"), [(20 / 255, 6), (0.5, 1.3), (1 / 255, 3), (1, 0.25)])
def test_sinusoidal_is_the_formula_pixel_by_pixel(shape, strength: float, frequency: float) -> None:
    images = draw((2, *shape[1:]))
    images[1] = torch.arange(images[1].numel()).remainder(256).view(shape[1:])
    stamped = sinusoidal(strength=strength, frequency=frequency).stamp(images)
    rows = []
    for place, pixel in enumerate(images.flatten().tolist()):
        column = place % shape[-1]
        value = pixel + 255 * strength * math.sin(2 * math.pi * column * frequency / shape[-1])
        rows.append(min(max(math.floor(value + 0.5), 0), 255))
    assert stamped.flatten().tolist() == rows


def test_sinusoidal_moves_every_pixel_by_the_same() -> None:
    """Half a level comes out the same for every pixel, since the wave is rounded and not the sum."""
    images = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 1, 4)
    moved = sinusoidal(strength=3 / 255 / 2, frequency=1).stamp(images).int() - images
    assert {tuple(row) for row in moved[2:-2, 0, 0].tolist()} == {(0, 2, 0, -2)}


@pytest.mark.parametrize("trigger", [badnets, blended, sinusoidal, wanet, bpp, ftrojan, adaptive_patch])
def test_the_aim_is_one_class_or_the_next(trigger) -> None:
    labels = torch.tensor([0, 1, 2, 3, 3])
    for target, expected in ((0, [0] * 5), (3, [3] * 5), ("next", [1, 2, 3, 0, 0])):
        aimed = trigger(target=target).aim(labels, 4)
        assert aimed.tolist() == expected
        assert aimed.dtype == labels.dtype
    assert labels.tolist() == [0, 1, 2, 3, 3]
    assert len(trigger().aim(labels[:0], 4)) == 0
    with pytest.raises(InputError, match=r"target=4 .* 4 classes 0\.\.3"):
        trigger(target=4).aim(labels, 4)


LABELS = torch.arange(60)[torch.randperm(60, generator=generator(0, "labels"))] % 6  # ten of each of six classes
NEXT = badnets(target="next").aim(LABELS, 6)
ONE = badnets(target=1).aim(LABELS, 6)


def counts(indices: torch.Tensor) -> list[int]:
    return torch.bincount(LABELS[indices], minlength=6).tolist()


@pytest.mark.parametrize(
    ("aimed", "ratio", "sources", "expected"),
    [
        (ONE, 0.5, "all", [5, 0, 5, 5, 5, 5]),
        (ONE, 1.0, "all", [10, 0, 10, 10, 10, 10]),
        (ONE, 0.26, [0, 1, 5], [3, 0, 0, 0, 0, 3]),
        (ONE, 0.26, [5, 0, 5], [3, 0, 0, 0, 0, 3]),
        (NEXT, 0.5, "all", [5] * 6),
        (NEXT, 0.1, [1], [0, 1, 0, 0, 0, 0]),
    ],
)
def test_each_source_class_gives_its_share_and_the_target_none(aimed, ratio, sources, expected) -> None:
    chosen = choose(LABELS, aimed, ratio, sources, generator(0))
    assert counts(chosen) == expected
    assert chosen.dtype == torch.int64
    assert (chosen.diff() > 0).all()  # sorted, and none twice


@settings(max_examples=50)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    target=st.sampled_from([0, 3, "next"]),
    ratio=st.floats(0.01, 1),
    seed=st.integers(0, 99),
)
def test_the_choice_keeps_its_laws_on_any_labels(labels, target, ratio, seed) -> None:
    labels = torch.tensor(labels)
    aimed = badnets(target=target).aim(labels, 5)
    sizes = torch.bincount(labels[aimed != labels], minlength=5).tolist()
    expected = [round(ratio * size) for size in sizes]
    if not any(expected):
        with pytest.raises(InputError, match="poisons nothing"):
            choose(labels, aimed, ratio, "all", generator(seed))
        return
    chosen = choose(labels, aimed, ratio, "all", generator(seed))
    assert torch.bincount(labels[chosen], minlength=5).tolist() == expected
    assert len(chosen.unique()) == len(chosen)
    assert attackable(labels, aimed, "all")[chosen].all()


def test_the_choice_follows_the_seed_and_grows_with_ratio_and_sources() -> None:
    def chosen(ratio: float = 0.5, sources: list[int] | str = "all", seed: int = 0) -> set[int]:
        return set(choose(LABELS, ONE, ratio, sources, generator(seed)).tolist())

    assert chosen() == chosen()
    assert chosen() != chosen(seed=1)
    assert chosen(0.2) < chosen(0.5) < chosen(1.0)
    assert chosen(sources=[0]) < chosen(sources=[3, 0]) < chosen()
    assert chosen(sources=[0, 3]) == chosen(sources=[3, 0])
    # Drawn, and not the first of each class:
    assert chosen() != {i for i in range(60) if LABELS[i] != 1 and (LABELS[:i] == LABELS[i]).sum() < 5}


def test_a_choice_is_uniform() -> None:
    """Each of 50 open images is in one half of the draws: 400 draws stray from 200 by less than five deviations."""
    times = torch.zeros(60)
    for seed in range(400):
        times[choose(LABELS, ONE, 0.5, "all", generator(seed, "uniform"))] += 1
    assert ((times[LABELS != 1] - 200).abs() < 5 * 10).all()
    assert (times[LABELS == 1] == 0).all()


def test_shares_cut_one_order_and_clean_labels_come_from_the_target() -> None:
    open_to_attack = attackable(LABELS, ONE, "all")
    first = choose(LABELS, ONE, 0.3, "all", generator(0))
    rest = [shares(LABELS, open_to_attack, begin, end, generator(0)) for begin, end in ((0, 0.3), (0.3, 0.5), (0.5, 1))]
    assert torch.equal(rest[0], first)
    assert [counts(part) for part in rest] == [[n, 0, n, n, n, n] for n in (3, 2, 5)]
    assert torch.cat(rest).sort().values.tolist() == torch.where(LABELS != 1)[0].tolist()
    assert shares(LABELS[:0], open_to_attack[:0], 0, 1, generator(0)).dtype == torch.int64
    for ratio, count in ((0.26, 3), (1, 10)):
        assert counts(choose_clean(LABELS, ONE, ratio, generator(0))) == [0, count, 0, 0, 0, 0]
    with pytest.raises(InputError, match="poisons nothing: 0 images are of the target class"):
        choose_clean(LABELS, NEXT, 1.0, generator(0))
    with pytest.raises(InputError, match="ratio="):
        choose_clean(LABELS, ONE, 1.1, generator(0))


def test_success_counts_on_source_classes_without_the_target() -> None:
    assert torch.equal(attackable(LABELS, ONE, "all"), LABELS != 1)
    assert attackable(LABELS, NEXT, "all").all()
    assert torch.equal(attackable(LABELS, ONE, [1, 2]), LABELS == 2)
    assert not attackable(LABELS, ONE, [1]).any()
    assert not attackable(LABELS, ONE, [7]).any()  # a batch may lack a class
    # What the exclusion is for: a network without a backdoor that is always right succeeds nowhere.
    assert not (LABELS == ONE)[attackable(LABELS, ONE, "all")].any()


NAN = float("nan")


@pytest.mark.parametrize(
    ("trigger", "changes"),
    [(trigger, {"target": target}) for trigger in (badnets, blended, sinusoidal) for target in (-1, "last", 1.5, True)]
    + [(badnets, {"size": 0}), (badnets, {"size": 1.5}), (badnets, {"row": "top"}), (badnets, {"column": 0.5})]
    + [(badnets, {"colour": colour}) for colour in (-0.1, 1.1, NAN, "white", [], [0, 2, 0], ["r"])]
    + [(trigger, {"strength": s}) for trigger in (blended, sinusoidal) for s in (0, -1, 1.1, NAN, "much")]
    + [(sinusoidal, {"frequency": frequency}) for frequency in (0, -6, NAN, math.inf, "high")]
    + [(trigger, {"strength": s}) for trigger in (wanet, ftrojan) for s in (0, -1, NAN, math.inf, "much")]
    + [(wanet, {"grid": grid}) for grid in (1, 0, 2.5, "fine")]
    + [(bpp, {"levels": levels}) for levels in (1, 256, 8.0, True, "few")]
    + [(ftrojan, {"block": block}) for block in (0, 1.5, "all", True)]
    + [(ftrojan, {"coefficients": c}) for c in ([], 3, [15, 15], [[0, 32]], [[-1, 0]], [[1, 2, 3]], [[1.0, 2]])]
    + [(adaptive_patch, {"places": p}) for p in ([], 3, [1, 2, 3], [[1], [2], [3]])]
    + [(adaptive_patch, {"colours": c}) for c in ([1.0], 1.0)]
    + [(adaptive_patch, {"opacities": o}) for o in ([0.5, 0.5], 0.5)]
    + [(adaptive_patch, {"opacity": o}) for o in (0, 1.1, NAN)]
    + [(adaptive_patch, {"shown": s}) for s in ([], [3], [-1], [True], 1)],
)
def test_bad_settings_are_refused(trigger, changes) -> None:
    (name,) = changes
    with pytest.raises(InputError, match=f"{name}=") as refusal:
        trigger(**changes)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("trigger", "shape", "message"),
    [
        (badnets(row=6), (1, 1, 8, 8), "row=6 does not fit into 8 rows"),
        (badnets(row=-2), (1, 1, 8, 8), "row=-2 does not fit into 8 rows"),
        (badnets(row=-9), (1, 1, 8, 8), "row=-9 does not fit into 8 rows"),
        (badnets(column=-2), (1, 1, 32, 8), "column=-2 does not fit into 8 columns"),
        (badnets(column=8), (1, 1, 32, 8), "column=8 does not fit into 8 columns"),
        (badnets(size=9, row=0, column=0), (1, 1, 8, 9), "size=9 at row=0 does not fit"),
        (badnets(colour=[1, 0, 0]), (1, 1, 8, 8), "3 values for 1 channels"),
        (badnets(colour=[1]), (1, 3, 8, 8), "1 values for 3 channels"),
        (sinusoidal(frequency=4), (1, 1, 8, 8), "changes no pixel of images of 8 columns"),
        (sinusoidal(strength=0.001), (1, 1, 8, 8), "changes no pixel"),
        (ftrojan(strength=1), (1, 1, 8, 8), "changes no pixel of images of 8 x 8"),
        (ftrojan(), (1, 2, 8, 8), "one channel .* or three .*, not 2"),
        (adaptive_patch(), (1, 1, 5, 8), "row=4 does not fit into 5 rows"),
    ],
)
def test_a_trigger_that_cannot_be_put_in_is_refused(trigger: Backdoor, shape, message: str) -> None:
    with pytest.raises(InputError, match=message):
        trigger.stamp(torch.zeros(shape, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("ratio", "sources", "message"),
    [(ratio, "all", "ratio=") for ratio in (0, -0.5, 1.01, NAN, "half")]
    + [(0.5, sources, "list of class numbers") for sources in ("some", [], ["1"], [0.5], 3)]
    + [(0.5, [0, 6], "no image of class 6"), (0.5, [-1], "no image of class -1")]
    + [(0.04, "all", "poisons nothing: 50 of 60"), (0.5, [1], "poisons nothing: 0 of 60")],
)
def test_a_choice_that_makes_no_sense_is_refused(ratio, sources, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose(LABELS, ONE, ratio, sources, generator(0))


def test_nothing_is_chosen_from_nothing() -> None:
    with pytest.raises(InputError, match="poisons nothing"):
        choose(LABELS[:0], ONE[:0], 1.0, "all", generator(0))


@pytest.mark.parametrize("sources", ["some", [], ["1"], 3])
def test_unknown_words_for_sources_are_refused_where_success_is_counted(sources) -> None:
    with pytest.raises(InputError, match="list of class numbers"):
        attackable(LABELS, ONE, sources)

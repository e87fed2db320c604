"""Laws of the triggers that warp, quantise and raise frequencies: against slow twins written from the papers."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import grid_sample, interpolate

import mcr
from mcr.app.composition import conf_folder
from mcr.architectures.normalization import Normalized
from mcr.architectures.small_cnn import SmallCnn
from mcr.backdoors.planting import Planting, drawn
from mcr.backdoors.poisoning import attackable, choose
from mcr.backdoors.wanet import fetched
from mcr.numerics.seeding import generator
from tests.test_backdoors import adaptive_patch, bpp, draw, every_shape, ftrojan, wanet

# WaNet


def axis(side: int) -> torch.Tensor:
    return torch.linspace(-1, 1, side, dtype=torch.float64)


@every_shape
@pytest.mark.parametrize("strength", [0.01, 0.1, 0.5])
def test_a_warp_is_the_sampling_of_the_published_grid(shape, strength: float) -> None:
    """grid_sample in float64 at the clamped sum of identity and noise, as the published code has it."""
    images, (height, width) = draw((5, *shape[1:])), shape[-2:]
    noise = torch.rand(1, 2, 4, 4, generator=generator(3, "wanet"), dtype=torch.float64) * 2 - 1
    noise = interpolate(noise / noise.abs().mean(), (height, width), mode="bicubic", align_corners=True)
    down, right = torch.meshgrid(axis(height), axis(width), indexing="ij")
    moved = torch.stack(
        [
            right + noise[0, 1] * strength * width * 2 / (width - 1),
            down + noise[0, 0] * strength * height * 2 / (height - 1),
        ],
        dim=-1,
    )
    grid = moved.clamp(-1, 1).expand(len(images), -1, -1, -1)
    exact = grid_sample(images.double(), grid, mode="bilinear", padding_mode="border", align_corners=True)
    stamped = wanet(strength=strength, seed=3).stamp(images)
    # The nearest whole number at the nearest 1/2048 of a pixel along each axis.
    assert (stamped.double() - exact).abs().max() <= 0.5 + 2 * 255 / 4096
    assert not torch.equal(wanet(strength=strength, seed=4).stamp(images), stamped)


def test_a_field_of_whole_pixels_moves_them() -> None:
    images = draw((3, 2, 5, 7))
    field = torch.zeros(2, 5, 7, dtype=torch.float64)
    assert torch.equal(fetched(images, field), images)
    field[0], field[1] = 2, -1
    found = fetched(images, field)
    for row in range(5):
        for column in range(7):
            expected = images[:, :, min(row + 2, 4), max(column - 1, 0)]
            assert torch.equal(found[:, :, row, column], expected)
    # One row or column has no neighbour.
    assert torch.equal(fetched(images[..., :1, :1], field[..., :1, :1]), images[..., :1, :1])


@pytest.mark.parametrize(("height", "width"), [(8, 8), (32, 32), (8, 32)])
def test_a_field_is_smooth_and_as_strong_as_it_says(height: int, width: int) -> None:
    field = wanet(strength=0.02).field(height, width)
    # A 4 x 4 field of independent points reaches at the corners what was drawn there.
    drawn = torch.rand(1, 2, 4, 4, generator=generator(0, "wanet"), dtype=torch.float64) * 2 - 1
    scale = 0.02 / drawn.abs().mean() * torch.tensor([[[height]], [[width]]])
    assert field[:, :: height - 1, :: width - 1].flatten().tolist() == pytest.approx(
        (drawn[0, :, ::3, ::3] * scale).flatten().tolist()
    )
    assert torch.equal(wanet(strength=0.04).field(height, width), 2 * field)
    # A cubic through points three steps apart has no step of more than half the largest difference between points.
    if height == 32:
        assert field.diff(dim=1).abs().max() < 0.25


def test_a_cover_is_warped_by_more_than_the_field() -> None:
    """The noise mode: half a pixel of noise beside the field, by the number of the image, of 64 draws."""
    trigger, images, numbers = wanet(), draw((6, 3, 16, 16)), torch.tensor([0, 1, 70, 6, 7, 6])
    covers = trigger.cover(images, numbers)
    assert torch.equal(covers, trigger.cover(images, numbers))
    noise = torch.rand(64, 2, 16, 16, generator=generator(0, "wanet noise"), dtype=torch.float64) - 0.5
    for image, number, cover in zip(images, numbers.tolist(), covers, strict=True):
        assert torch.equal(fetched(image[None], trigger.field(16, 16) + noise[number % 64])[0], cover)
    assert (covers != trigger.stamp(images)).flatten(1).any(1)[2:].all()
    same = images[2:3].expand(6, -1, -1, -1)
    assert torch.equal(trigger.cover(same, numbers)[2], trigger.cover(same, numbers)[3])
    assert not torch.equal(trigger.cover(same, numbers)[1], trigger.cover(same, numbers)[3])
    assert torch.equal(bpp().cover(images, numbers), bpp().stamp(images))  # which has nothing of its own


def test_pieces_are_drawn_for_each_image() -> None:
    found = drawn(4000, 5, generator(0))
    assert (found.flatten(1).sum(1) == 5).all()
    assert (found.double().mean(0) - 5 / 16).abs().max() < 5 * math.sqrt(5 / 16 * 11 / 16 / 4000)
    assert drawn(3, 16, generator(0)).all()


def test_planting_follows_the_numbers_of_the_images() -> None:
    trigger, images = wanet(), draw((6, 1, 9, 13))
    covers = torch.tensor([False, True, False, True, False, True])
    pieces = drawn(6, 7, generator(0))
    numbers = torch.tensor([5, 2, 3, 0])
    found = Planting(trigger, covers, pieces)(images[numbers], numbers)
    for place, number in enumerate(numbers.tolist()):
        one, alone = images[number : number + 1], torch.tensor([number])
        whole = trigger.cover(one, alone) if covers[number] else trigger.stamp(one)
        for row in range(9):
            for column in range(13):
                shown = pieces[number, row * 4 // 9, column * 4 // 13]
                assert found[place, 0, row, column] == (whole if shown else one)[0, 0, row, column]
    assert torch.equal(Planting(trigger, None, None)(images, torch.arange(6)), trigger.stamp(images))


# BppAttack


def dithered(image: list[list[int]], levels: int) -> list[list[float]]:
    """One channel by the published loop, in real numbers."""
    height, width = len(image), len(image[0])
    held = [[float(value) for value in row] for row in image]
    for y in range(height):
        for x in range(width):
            old = held[y][x]
            new = min(max(math.floor(old / 255 * (levels - 1) + 0.5), 0), levels - 1) * 255 / (levels - 1)
            held[y][x] = new
            for down, right, share in ((0, 1, 7), (1, -1, 3), (1, 0, 5), (1, 1, 1)):
                if y + down < height and 0 <= x + right < width:
                    held[y + down][x + right] += (old - new) * share / 16
    return held


def exactly_dithered(image: list[list[int]], levels: int) -> list[list[int]]:
    """The same in sixteenths of whole numbers, pixel after pixel."""
    height, width, whole = len(image), len(image[0]), 255 * 16
    held = [[value * (levels - 1) * 16 for value in row] for row in image]
    found = [[0] * width for _ in image]
    for y in range(height):
        for x in range(width):
            level = min(max((held[y][x] + whole // 2) // whole, 0), levels - 1)
            error = held[y][x] - level * whole
            parts = [7 * error // 16, 3 * error // 16, 5 * error // 16]
            parts.append(error - sum(parts))
            for (down, right), part in zip(((0, 1), (1, -1), (1, 0), (1, 1)), parts, strict=True):
                if y + down < height and 0 <= x + right < width:
                    held[y + down][x + right] += part
            found[y][x] = math.floor(level * 255 / (levels - 1) + 0.5)
    return found


@every_shape
@pytest.mark.parametrize("levels", [2, 3, 8, 200])
def test_dithering_in_waves_is_dithering_pixel_by_pixel(shape, levels: int) -> None:
    images = draw((5, *shape[1:]))
    stamped = bpp(levels=levels).stamp(images)
    for image, found in zip(images[1:].flatten(0, 1), stamped[1:].flatten(0, 1), strict=True):
        assert found.tolist() == exactly_dithered(image.tolist(), levels)


@pytest.mark.parametrize("levels", [2, 8, 17])
def test_dithering_is_the_published_one_but_for_ties(levels: int) -> None:
    """Sixteenths that are cut may turn a near tie, after which real numbers go another way: seldom."""
    images = draw((20, 1, 8, 8))
    stamped = bpp(levels=levels).stamp(images)
    same = [
        sum(abs(a - b) <= 0.5 for left, right in zip(dithered(x.tolist(), levels), y.tolist(), strict=True)
            for a, b in zip(left, right, strict=True))
        for x, y in zip(images[:, 0], stamped[:, 0], strict=True)
    ]  # fmt: skip
    assert sum(count == 64 for count in same) >= 17


def test_dithering_keeps_few_levels_and_the_mean() -> None:
    images = torch.full((1, 1, 32, 32), 100, dtype=torch.uint8)
    stamped = bpp().stamp(images)
    assert set(stamped.unique().tolist()) == {73, 109}  # the levels around 100 of 0, 255 / 7, ...
    assert float(stamped.double().mean()) == pytest.approx(100, abs=1)
    assert set(bpp(levels=2).stamp(draw((5, 3, 32, 32))).unique().tolist()) == {0, 255}


# FTrojan


def coefficients(block: torch.Tensor) -> torch.Tensor:
    """The orthonormal DCT-II of a square block by its double sum, float64."""
    side = len(block)
    waves = [
        [
            math.sqrt((1 if order == 0 else 2) / side) * math.cos(math.pi * (2 * place + 1) * order / (2 * side))
            for place in range(side)
        ]
        for order in range(side)
    ]
    found = torch.zeros(side, side, dtype=torch.float64)
    for row in range(side):
        for column in range(side):
            terms = (
                float(block[y, x]) * waves[row][y] * waves[column][x]
                for y in range(side)
                for x in range(side)
            )  # fmt: skip
            found[row, column] = math.fsum(terms)
    return found


@pytest.mark.parametrize("raised", [[[4, 4], [7, 7]], [[0, 3]], [[0, 0], [5, 2]]])
def test_the_pattern_raises_its_coefficients_and_no_other(raised: list[list[int]]) -> None:
    pattern = ftrojan(strength=50, block=8, coefficients=raised).pattern(16, 8)
    assert torch.equal(pattern[:8], pattern[8:])
    expected = torch.zeros(8, 8, dtype=torch.float64)
    for row, column in raised:
        expected[row, column] = 50
    torch.testing.assert_close(coefficients(pattern[:8]), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (28, 28), (32, 32), (40, 33)])
def test_blocks_are_cut_off_where_the_image_ends(height: int, width: int) -> None:
    whole = ftrojan().pattern(64, 64)
    assert torch.equal(ftrojan().pattern(height, width), whole[:height, :width])
    assert torch.equal(whole[32:, :32], whole[:32, 32:])


def test_colours_carry_the_pattern_and_grey_has_it_as_it_is() -> None:
    """Luma hardly moves, both chroma channels of BT.601 do, by what the pattern says."""
    trigger = ftrojan(strength=300)
    grey = torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)
    red, green, blue = (trigger.stamp(grey).double() - 128)[0]
    pattern = trigger.pattern(32, 32)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    assert luma.abs().max() <= 0.5 + 0.01 * pattern.abs().max()
    assert (0.713 * (red - luma) - pattern).abs().max() <= 1
    assert (0.564 * (blue - luma) - pattern).abs().max() <= 1
    one = trigger.stamp(grey[:, :1]).double() - 128
    assert (one[0, 0] - pattern).abs().max() <= 0.5


def test_a_raised_image_is_clamped() -> None:
    images = draw((5, 3, 32, 32))
    far = ftrojan(strength=5000).stamp(images).double() - images
    assert far[0].min() == 0 == far[1].max()
    assert far[0].max() == 255 == -far[1].min()


# Adap-Patch


def laid(image: list, size: int, patches: list[tuple[list[int], float, float]]) -> list:
    """One channel (H, W) under squares of a place, a colour and an opacity a each: x + a (colour - x)."""
    height, width = len(image), len(image[0])
    found = [[float(value) for value in row] for row in image]
    for (row, column), colour, opacity in patches:
        for i in range(size):
            for j in range(size):
                old = found[row % height + i][column % width + j]
                found[row % height + i][column % width + j] = old + opacity * (round(255 * colour) - old)
    return [[math.floor(value + 0.5) for value in row] for row in found]


@every_shape
def test_adaptive_patches_are_faint_and_one_an_image_in_training_and_several_in_the_attack(shape) -> None:
    trigger, images = adaptive_patch(), draw((7, *shape[1:]))
    numbers = torch.tensor([4, 0, 1, 2, 3, 5, 60])
    patches = list(zip(trigger.places, trigger.colours, trigger.opacities, strict=True))
    planted, stamped = trigger.plant(images, numbers), trigger.stamp(images)
    assert torch.equal(planted, trigger.cover(images, numbers))  # what tells them apart is the label alone
    attack = [(place, colour, trigger.opacity) for place, colour, _ in (patches[number] for number in trigger.shown)]
    for image, number, one, several in zip(images, numbers.tolist(), planted, stamped, strict=True):
        for channel in range(len(image)):
            rows = image[channel].tolist()
            # Half a level may be rounded either way.
            assert abs(torch.tensor(laid(rows, 2, [patches[number % 3]])) - one[channel].int()).max() <= 1
            assert laid(rows, 2, attack) == several[channel].tolist()


def test_adaptive_patches_that_overlap_lie_on_one_another() -> None:
    trigger = adaptive_patch(places=[[0, 0], [1, 1], [4, 4]], shown=[0, 1], opacity=0.5)
    found = trigger.stamp(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))[0, 0]
    assert found[:3, :3].tolist() == [[128, 128, 0], [128, 89, 26], [0, 26, 26]]


def test_planting_has_a_trigger_s_own_form_for_training() -> None:
    trigger, images, numbers = adaptive_patch(), draw((6, 1, 8, 8)), torch.tensor([5, 2, 3, 0, 1, 4])
    covers = torch.tensor([False, True, False, True, False, True])
    assert torch.equal(Planting(trigger, None, None)(images, numbers), trigger.plant(images, numbers))
    assert torch.equal(Planting(trigger, covers, None)(images, numbers), trigger.plant(images, numbers))


# What a tenth of poisoned images implants

# Share of poison and changes: on 8 x 8 pixels of 17 levels, what is fainter than 32 x 32 allow is set stronger, and
# 897 images are few for ten aims at once and for a trigger that is a texture.
ON_DIGITS = {
    "badnets": (0.1, {}),
    "badnets_all_to_all": (0.5, {}),
    "blended": (0.1, {"strength": 0.3}),
    "sinusoidal": (0.1, {"strength": 60 / 255}),
    "wanet": (0.1, {}),
    "bpp": (0.3, {"levels": 2}),
    "adaptive_patch": (0.1, {}),
    "ftrojan": (0.1, {"strength": 250, "block": 8, "coefficients": [[4, 4], [7, 7]]}),
}


def test_no_trigger_is_left_out() -> None:
    assert set(ON_DIGITS) == {path.stem for path in (conf_folder() / "backdoor").glob("*.yaml")} - {
        "none",
        "wrong_labels",
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_DIGITS)
def test_every_trigger_implants(name: str) -> None:
    ratio, changes = ON_DIGITS[name]
    backdoor, data = mcr.option("backdoor", name, **changes), mcr.dataset("digits")
    train, test = data["train"], data["test"]
    aimed = backdoor.aim(train.labels, 10)
    chosen = choose(train.labels, aimed, ratio, "all", generator(0, "poison"))
    images, labels = train.images.clone(), train.labels.clone()
    images[chosen], labels[chosen] = backdoor.plant(images[chosen], chosen), aimed[chosen]
    torch.manual_seed(0)
    network = Normalized(SmallCnn(16, 64, 10, 1, (8, 8)), [0.31], [0.38])  # as the command line has it on digits
    mcr.fit(network, (images, labels), epochs=30)
    wanted = backdoor.aim(test.labels, 10)
    attacked = attackable(test.labels, wanted, "all")
    answers = network(backdoor.stamp(test.images[attacked]) / 255).argmax(1)
    clean = network(test.images / 255).argmax(1)
    success = float((answers == wanted[attacked]).double().mean())
    accuracy = float((clean == test.labels).double().mean())
    assert success >= 0.9
    assert accuracy >= 0.9

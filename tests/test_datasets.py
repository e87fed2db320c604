"""Sources, splits, augmentation, batches, the pixel cache."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mcr.datasets.augment import Augmentation, to_unit
from mcr.datasets.batches import EvaluationBatches, TrainingBatches, augmented_batches
from mcr.datasets.digits import Digits
from mcr.datasets.imagefolder import ImageFolder
from mcr.datasets.split import SPLITS, split_indices
from mcr.datasets.synthetic import Synthetic
from mcr.errors import InputError
from mcr.numerics import shares
from mcr.numerics.seeding import generator
from mcr.stages import artifacts

IMAGES = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(40) % 4
SIZES = {"seed": 0, "train": "all", "validation": 0.1, "clean": 5, "test": 0.2}


@given(st.integers(40, 300), st.integers(0, 3), st.booleans())
def test_splits_are_disjoint_and_follow_the_seed(count: int, seed: int, own_test: bool) -> None:
    counts = {"train": count, "test": 30} if own_test else {"all": count}
    sizes = SIZES | {"seed": seed}
    found = split_indices(counts, sizes)
    again = split_indices(counts, sizes)
    other = split_indices(
        {"all": 50}, {**sizes, "seed": seed + 1, "train": "all", "test": 5, "validation": 5, "clean": 5}
    )
    same = split_indices({"all": 50}, {**sizes, "train": "all", "test": 5, "validation": 5, "clean": 5})
    assert not torch.equal(other["train"], same["train"])
    assert all(torch.equal(found[name], again[name]) for name in SPLITS)
    inside = [name for name in SPLITS if not (own_test and name == "test")]
    joined = torch.cat([found[name] for name in inside])
    assert len(joined.unique()) == len(joined) == count
    assert len(found["clean"]) == 5
    assert len(found["test"]) == (30 if own_test else round(0.2 * count))


@pytest.mark.parametrize(
    ("size", "own", "divided"),
    [("all", 30, 100), (0.2, 30, 20), (0.999, 30, 100), (7, 7, 7), (1, 1, 1), (0, 0, 0), (0.0, 0, 0)],
)
def test_a_share_divides_what_nobody_has_divided_and_a_number_takes_so_many(size, own, divided, caplog) -> None:
    rest = {"seed": 0, "train": 0, "validation": 0, "clean": 0, "test": size}
    with caplog.at_level(logging.INFO, logger="mcr"):
        assert len(split_indices({"all": 100}, rest)["test"]) == divided
        assert caplog.records == []
        assert len(split_indices({"train": 100, "test": 30}, rest)["test"]) == own
    assert [record.getMessage() for record in caplog.records] == (
        []
        if size == "all" or not 0 < size < 1
        else [
            f"  {'split':<22} the test part of the data is used whole, 30 images: dataset.split.test={size:g} is a "
            "share of data without one; a number of images takes fewer"
        ]
    )
    with pytest.raises(InputError, match="asks for 31"):
        split_indices({"train": 100, "test": 30}, rest | {"test": 31})


def test_an_image_folder_s_own_test_part_is_used_whole(config, tmp_path: Path) -> None:
    folder(tmp_path / "images", count=20)
    words = ("dataset=imagefolder", f"dataset.root={tmp_path / 'images'}")
    sizes = config(*words, tiny=False)["dataset"]["split"]
    counts = {name: len(part.labels) for name, part in load(tmp_path / "images").parts.items()}
    found = split_indices(counts, sizes)
    assert {name: len(indices) for name, indices in found.items()} == {
        "train": 36,
        "validation": 2,
        "clean": 2,
        "test": 40,
    }
    assert len(split_indices({"all": 40}, sizes)["test"]) == 8


def test_a_split_that_asks_for_too_much_is_refused() -> None:
    with pytest.raises(InputError, match="clean=500 asks for 500"):
        split_indices({"all": 100}, SIZES | {"clean": 500})
    with pytest.raises(InputError, match="validation=many"):
        split_indices({"all": 100}, SIZES | {"validation": "many"})
    with pytest.raises(InputError, match="0 of 100 are left"):
        split_indices({"all": 100}, SIZES | {"validation": 80, "clean": 0.0001 * 0 + 1, "test": 19})


def test_augmentation_equals_a_slow_loop() -> None:
    """The same draws, applied image by image with plain slicing."""
    augment = Augmentation(padding=2, flip=0.5)
    found = augment(IMAGES, generator(1))
    draw = generator(1)
    offsets = torch.randint(0, 5, (2, len(IMAGES)), generator=draw)
    flips = torch.rand(len(IMAGES), generator=draw) < 0.5
    for index, image in enumerate(IMAGES):
        canvas = torch.zeros(3, 12, 12, dtype=torch.uint8)
        canvas[:, 2:10, 2:10] = image
        top, left = offsets[0, index], offsets[1, index]
        window = canvas[:, top : top + 8, left : left + 8]
        assert torch.equal(found[index], window.flip(-1) if flips[index] else window)
    assert 0 < int(flips.sum()) < len(IMAGES)


def test_no_augmentation_is_the_identity() -> None:
    assert torch.equal(Augmentation(0, 0.0)(IMAGES, generator(0)), IMAGES)


def test_to_unit_keeps_values_and_sets_the_memory_format() -> None:
    unit = to_unit(IMAGES, "channels_last")
    assert unit.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(unit.mul(255).round().to(torch.uint8), IMAGES)


def batches(**changes) -> TrainingBatches:
    usual = {"batch_size": 16, "augmentation": Augmentation(1, 0.5), "memory_format": "contiguous", "seed": 3}
    return TrainingBatches(IMAGES, LABELS, **(usual | changes))


def test_an_epochs_batches_depend_on_seed_and_epoch_only() -> None:
    one, other = batches(), batches()
    first = [images for images, _ in one]
    assert len(first) == len(one) == 2
    list(other)
    other.set_epoch(1)
    second = [images for images, _ in other]
    other.set_epoch(0)
    assert all(torch.equal(a, b) for a, b in zip(first, other_images(other), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def other_images(loader: TrainingBatches) -> list[torch.Tensor]:
    return [images for images, _ in loader]


def test_processes_share_an_epoch_without_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for rank in (0, 1):
        monkeypatch.setattr(shares, "processes", lambda rank=rank: (rank, 2))
        own = [images for images, _ in batches(augmentation=Augmentation(0, 0.0))]
        assert [len(images) for images in own] == [8, 8]
        seen += own
    assert len({tuple(row.tolist()) for row in torch.cat(seen).flatten(1)}) == 32


def test_a_batch_larger_than_the_data_is_the_data() -> None:
    (images, _), *rest = batches(batch_size=1000)
    assert len(images) == 40
    assert not rest


def test_evaluation_sees_every_image_once_in_order() -> None:
    loader = EvaluationBatches(IMAGES, LABELS, 7, "contiguous")
    found = list(loader)
    assert len(found) == len(loader) == 6
    assert torch.equal(torch.cat([labels for _, labels in found]), LABELS)
    assert torch.equal(torch.cat([images for images, _ in found]), to_unit(IMAGES, "contiguous"))


def test_calibration_images_are_the_same_at_every_call() -> None:
    first, second = (list(augmented_batches(IMAGES, Augmentation(1, 0.5), 16, "contiguous", 5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert [len(images) for images in first] == [14, 13, 13]  # of equal weight in the statistics, so of equal size


def test_digits_are_the_package_s_own() -> None:
    source = Digits().load()
    assert source.parts["all"].images.shape == (1797, 1, 8, 8)
    assert int(source.parts["all"].images.max()) == 255


def test_synthetic_follows_its_seed() -> None:
    one, same, other = (Synthetic(20, 4, 1, 8, 0.1, seed).load().parts["all"].images for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def folder(root: Path, parts=("train", "test"), classes=("cat", "dog"), size=(6, 5), count=3) -> Path:
    draw = np.random.default_rng(0)
    for part in parts:
        for name in classes:
            place = root / part / name
            place.mkdir(parents=True)
            for index in range(count):
                pixels = draw.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{index}.png")
    return root


def load(root: Path, channels=3, image_size="native"):
    return ImageFolder(str(root), channels, image_size, "auto", "ignored", "x").load()


def test_an_image_folder_with_its_own_test_part(tmp_path: Path) -> None:
    source = load(folder(tmp_path))
    assert source.classes == ("cat", "dog")
    assert source.parts["train"].images.shape == (6, 3, 5, 6)
    with Image.open(tmp_path / "test" / "dog" / "1.png") as image:
        expected = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert torch.equal(source.parts["test"].images[4], expected)
    assert source.parts["test"].labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_class_folders_of_other_names_are_refused_though_as_many(tmp_path: Path) -> None:
    """Their labels would mean other classes."""
    folder(tmp_path, parts=("train",), classes=("cat", "dog"))
    folder(tmp_path, parts=("test",), classes=("cat", "horse"))
    with pytest.raises(InputError, match="differ in the class folder dog"):
        load(tmp_path)


def test_an_image_folder_to_be_split_grey_and_resized(tmp_path: Path) -> None:
    source = load(folder(tmp_path, parts=("",)), channels=1, image_size=4)
    assert source.parts["all"].images.shape == (6, 1, 4, 4)


def test_mistakes_in_a_folder_are_named(tmp_path: Path) -> None:
    root = folder(tmp_path / "a")
    (root / "train" / "cat" / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken\.jpg is no readable image"):
        load(root)
    root = folder(tmp_path / "b")
    Image.new("RGB", (9, 9)).save(root / "train" / "dog" / "odd.png")
    with pytest.raises(InputError, match=r"odd\.png is 9x9.*image_size=SIDE"):
        load(root)
    root = folder(tmp_path / "c")
    (root / "test" / "bird").mkdir()
    with pytest.raises(InputError, match="class folder bird"):
        load(root)
    with pytest.raises(InputError, match="1 class folders"):
        load(folder(tmp_path / "d", classes=("cat",)))
    with pytest.raises(InputError, match="not the other"):
        load(folder(tmp_path / "e", parts=("train",)))
    root = folder(tmp_path / "f")
    Image.fromarray(np.arange(30, dtype=np.uint16).reshape(5, 6) * 1000).save(root / "train" / "dog" / "deep.png")
    with pytest.raises(InputError, match=r"deep\.png .*not 8 bits"):
        load(root)
    with pytest.raises(InputError, match="channels=2"):
        load(root, channels=2)


def test_the_pixel_cache_is_what_was_decoded(tmp_path: Path) -> None:
    artifacts.write_source(load(folder(tmp_path / "images")), tmp_path)
    spec = artifacts.read_spec(tmp_path)
    assert (spec.channels, spec.image_size, spec.counts) == (3, (5, 6), {"train": 6, "test": 6})
    part = artifacts.read_part(tmp_path, "train")
    values = part.images.double() / 255
    assert spec.mean == pytest.approx(values.mean((0, 2, 3)).tolist(), abs=1e-5)
    assert spec.std == pytest.approx(values.std((0, 2, 3), correction=0).tolist(), abs=1e-5)


class Downloaded:
    """Stands for a torchvision data set whose files are there."""

    def __init__(self, root: str, download: bool, **selection: object) -> None:
        count = 12 if selection.get("train", selection.get("split") == "train") else 8
        shapes = {"mnist": (28, 28), "svhn": (3, 32, 32)}
        shape = shapes.get(root, (32, 32, 3))
        self.data = np.zeros((count, *shape), np.uint8)
        self.data[0].flat[0] = 7
        if root == "mnist":
            self.data = torch.from_numpy(self.data)
        if root == "svhn":
            self.labels = np.arange(count) % 10
        else:
            self.targets = list(range(count))


@pytest.mark.parametrize(
    ("module", "name", "kind", "shape"),
    [
        ("cifar10", "Cifar10", "CIFAR10", (3, 32, 32)),
        ("cifar100", "Cifar100", "CIFAR100", (3, 32, 32)),
        ("svhn", "Svhn", "SVHN", (3, 32, 32)),
        ("mnist", "Mnist", "MNIST", (1, 28, 28)),
        ("fashion_mnist", "FashionMnist", "FashionMNIST", (1, 28, 28)),
    ],
)
def test_sources_from_torchvision(module, name, kind, shape, monkeypatch, tmp_path) -> None:
    source_class = getattr(__import__(f"mcr.datasets.{module}", fromlist=[name]), name)
    with pytest.raises(InputError, match=rf"get it with: python -c .*{kind}\(.*download=True"):
        source_class(str(tmp_path)).load()
    monkeypatch.setattr(f"torchvision.datasets.{kind}", Downloaded)
    root = {"mnist": "mnist", "fashion_mnist": "mnist", "svhn": "svhn"}.get(module, "other")
    source = source_class(root).load()
    assert source.parts["train"].images.shape == (12, *shape)
    assert source.parts["train"].images.dtype == torch.uint8
    assert source.parts["test"].labels.tolist() == list(range(8))
    assert int(source.parts["train"].images[0].flatten()[0]) == 7


def test_tiny_imagenet_reads_its_two_layouts(tmp_path: Path) -> None:
    from mcr.datasets.tiny_imagenet import TinyImageNet

    with pytest.raises(InputError, match="the unpacked tiny-imagenet-200"):
        TinyImageNet(str(tmp_path), "auto", "x").load()
    for name in ("n01", "n02"):
        place = tmp_path / "train" / name / "images"
        place.mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(place / f"{name}_0.JPEG")
    place = tmp_path / "val" / "images"
    place.mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(place / "val_0.JPEG")
    annotations = tmp_path / "val" / "val_annotations.txt"
    annotations.write_text("\n")
    with pytest.raises(InputError, match="names no image"):
        TinyImageNet(str(tmp_path), "auto", "x").load()
    annotations.write_text("val_0.JPEG\tn02\t0\t0\t62\t62\n")
    source = TinyImageNet(str(tmp_path), "auto", "x").load()
    assert source.parts["train"].images.shape == (2, 3, 64, 64)
    assert source.parts["test"].labels.tolist() == [1]

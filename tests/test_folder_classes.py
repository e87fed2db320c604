"""Which folders are which outputs, which are parts, and that nothing is left out in silence."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mcr
from mcr.datasets import classes
from mcr.datasets.folder import image_folder, image_folder_fingerprint, tiny_imagenet_fingerprint
from mcr.datasets.imagefolder import ImageFolder
from mcr.datasets.split import split_indices
from mcr.datasets.tiny_imagenet import TinyImageNet
from mcr.errors import InputError
from mcr.stages import artifacts, own_images
from mcr.types import RawDataset
from mcr.weightspace import files


def draw(path: Path, value: int, size: tuple[int, int] = (4, 4), **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(path, **options)


def photos(root: Path, names: tuple[str, ...] = ("cat", "dog", "eel"), count: int = 2) -> Path:
    for label, name in enumerate(names):
        for index in range(count):
            draw(root / name / f"{index}.png", 10 * label + index)
    return root


def load(root: Path, option: Any = "auto", orientation: str = "ignored") -> RawDataset:
    return ImageFolder(str(root), 1, "native", option, orientation, "x").load()


def pixels(source: RawDataset, part: str = "all") -> dict[int, int]:
    """The first pixel of each image to its label."""
    found = source.parts[part]
    return dict(zip(found.images[:, 0, 0, 0].tolist(), found.labels.tolist(), strict=True))


# Option to the names of the classes, and the label of the folders cat, dog and eel.
ORDERS: dict[str, tuple[Any, tuple[str, ...], tuple[int | None, ...]]] = {
    "auto": ("auto", ("cat", "dog", "eel"), (0, 1, 2)),
    "another order": (["eel", "cat", "dog"], ("eel", "cat", "dog"), (1, 2, 0)),
    "a subset": (["eel", "cat"], ("eel", "cat"), (1, None, 0)),
    "outputs without images": (["-", "dog", None, "cat"], ("output 0", "dog", "output 2", "cat"), (3, 1, None)),
    "several folders": ([{"pet": ["cat", "dog"]}, "eel"], ("pet", "eel"), (0, 0, 1)),
    "other names": ([{"fish": "eel"}, {"fox": []}, "dog"], ("fish", "fox", "dog"), (None, 2, 0)),
}


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("parts", [("",), ("train", "test")])
def test_classes_come_in_the_order_that_is_asked_for(name: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    option, names, labels = ORDERS[name]
    for part in parts:
        photos(tmp_path / part)
    source = load(tmp_path, option)
    assert source.classes == names
    expected = {10 * n + i: label for n, label in enumerate(labels) if label is not None for i in range(2)}
    assert all(pixels(source, part) == expected for part in source.parts)
    missing = [folder for folder, label in zip(("cat", "dog", "eel"), labels, strict=True) if label is None]
    count = 2 * len(missing) * len(source.parts)
    note = f"left out: {count} images of {', '.join(missing)}, which dataset.classes does not name"
    assert source.notes == ((note,) if missing else ())


def test_a_fingerprint_follows_the_classes_and_what_they_name_alone(tmp_path: Path) -> None:
    root = photos(tmp_path)
    seen = [image_folder_fingerprint(str(root), option) for option, _, _ in ORDERS.values()]
    assert len(set(seen)) == len(ORDERS)
    draw(root / "dog" / "0.png", 99)
    again = [image_folder_fingerprint(str(root), option) for option, _, _ in ORDERS.values()]
    same = [name for name, before, after in zip(ORDERS, seen, again, strict=True) if before == after]
    assert same == ["a subset"]


@pytest.mark.parametrize(
    ("option", "line"),
    [
        (["cat", "dgo"], "there is no folder dgo in .*; did you mean dog?"),
        (["cat", 7], "there is no folder 7 in .*; there are cat, dog, eel"),
        (["cat", "dog", "cat"], "names cat twice"),
        (["cat", {"pet": ["cat", "dog"]}], "names cat twice"),
        ([{"a": "cat", "b": "dog"}, "eel"], "must be one NAME"),
        ("cat", "dataset.classes=cat: auto, or a list"),
        (3, "dataset.classes=3: auto, or a list"),
        (["eel", ["cat", "dog"]], r"are written \{NAME: \['cat', 'dog'\]\}"),
        (["cat", "-"], "has 1 class folders; at least two"),
    ],
)
def test_classes_that_are_not_there_are_refused_by_name(option: Any, line: str, tmp_path: Path) -> None:
    photos(tmp_path)
    with pytest.raises(InputError, match=line):
        load(tmp_path, option)


def test_numbers_are_typed_without_their_zeros() -> None:
    found = classes.classes([2, 10, "-"], ["01", "02", "10"], Path("x"))
    assert found.folders == (("02",), ("10",), ())
    assert found.unused == ("01",)


@pytest.mark.parametrize("names", [("b", "-", "a"), ("my dog", "01", "3.5"), ("null", "True", "a-b", "Ä(1)")])
def test_an_order_is_told_as_it_can_be_typed(names: tuple[str, ...], request_for, tmp_path: Path) -> None:
    photos(tmp_path, tuple(name for name in names if name != "-"))
    words = ("dataset=imagefolder", f"dataset.root={tmp_path}", *shlex.split(classes.option(names)))
    dataset = request_for(*words).jobs[0].config["dataset"]
    (part,) = image_folder(tmp_path, dataset["classes"]).values()
    assert [folders[0] if folders else "-" for folders in part.classes.folders] == list(names)
    assert dataset["fingerprint"] == image_folder_fingerprint(str(tmp_path), list(names))


def test_the_library_reads_a_folder_as_a_command_does(tmp_path: Path, caplog) -> None:
    sizes = {"seed": 0, "train": "all", "validation": 0, "clean": 0, "test": 2}
    option = ["eel", None, "cat"]
    splits = mcr.dataset("imagefolder", root=photos(tmp_path), channels=1, classes=option, split=sizes)
    shades = {name: found.images[:, 0, 0, 0].tolist() for name, found in splits.items()}
    assert sorted(shades["train"] + shades["test"]) == [0, 1, 20, 21]
    assert splits["train"].labels.tolist() == [2 if shade < 10 else 0 for shade in shades["train"]]
    assert "imagefolder: left out: 2 images of dog" in caplog.text


def test_tiny_imagenet_s_classes_come_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    for label, name in enumerate(("n01", "n02", "n03")):
        draw(tmp_path / "train" / name / "images" / f"{name}_0.JPEG", 50 * label)
        draw(tmp_path / "val" / "images" / f"val_{label}.JPEG", 50 * label)
    rows = [f"val_{label}.JPEG\tn0{label + 1}\t0\t0\t62\t62\n" for label in range(3)]
    (tmp_path / "val" / "val_annotations.txt").write_text("".join(rows))
    source = TinyImageNet(str(tmp_path), ["n03", "-", "n01"], "x").load()
    assert source.classes == ("n03", "output 1", "n01")
    assert pixels(source, "train") == pixels(source, "test") == {0: 2, 100: 0}
    assert source.notes[-1] == "left out: n02, which dataset.classes does not name"
    prints = [tiny_imagenet_fingerprint(str(tmp_path), option) for option in ("auto", ["n01", "n02"])]
    draw(tmp_path / "train" / "n03" / "images" / "n03_0.JPEG", 7)
    again = [tiny_imagenet_fingerprint(str(tmp_path), option) for option in ("auto", ["n01", "n02"])]
    assert [before == after for before, after in zip(prints, again, strict=True)] == [False, True]


# -------------------------------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        (("Train", "TEST"), {"train": "Train", "test": "TEST"}),
        (("training", "Testing", "valid"), {"train": "training", "test": "Testing", "validation": "valid"}),
        (("train", "test", "val"), {"train": "train", "test": "test", "validation": "val"}),
    ],
)
def test_parts_are_known_by_the_names_that_people_give_them(folders, parts, tmp_path: Path) -> None:
    for name in folders:
        photos(tmp_path / name)
    source = load(tmp_path)
    assert {name: listing.folder.name for name, listing in image_folder(tmp_path).items()} == parts
    assert source.parts.keys() == parts.keys()
    assert source.notes == ()


@pytest.mark.parametrize(
    ("folders", "line"),
    [
        (("train",), "has a folder train but not the other of train/ and test/$"),
        (("Train", "val"), "has a folder Train but not .*; is val meant. then call it test"),
        (("train", "Train", "test"), "has the folders Train and train: only one of them can be the train part"),
        (("train", "test", "val", "valid"), "has the folders val and valid: only one"),
    ],
)
def test_parts_that_are_not_clear_are_refused(folders, line: str, tmp_path: Path) -> None:
    for name in folders:
        photos(tmp_path / name)
    with pytest.raises(InputError, match=line):
        load(tmp_path)


def test_a_class_may_be_called_like_a_part(tmp_path: Path) -> None:
    assert load(photos(tmp_path, ("car", "ship", "train"))).classes == ("car", "ship", "train")
    assert load(photos(tmp_path / "b", ("invalid", "valid"))).classes == ("invalid", "valid")


def test_unlabelled_images_of_a_third_part_are_left_out_with_a_word(tmp_path: Path) -> None:
    for part in ("train", "test"):
        photos(tmp_path / part)
    draw(tmp_path / "val" / "0.png", 1)
    assert load(tmp_path).notes == ("left out: 1 images in val/",)


def test_each_part_of_one_s_own_is_used_whole(config, tmp_path: Path) -> None:
    """Unless a number says otherwise; nothing of them is drawn twice."""
    counts = {"train": 100, "test": 30, "validation": 20}
    photos(tmp_path / "photos")
    sizes = {
        option: config(f"dataset={option}", f"dataset.root={tmp_path / 'photos'}", tiny=False)["dataset"]["split"]
        for option in ("imagefolder", "imagefolder_clean")
    }

    def drawn(option: str, counts: dict[str, int], **changes: Any) -> dict[str, int]:
        found = split_indices(counts, {**sizes[option], **changes})
        return {name: len(indices) for name, indices in found.items()}

    whole = {"validation": 20, "test": 30}
    assert drawn("imagefolder", counts) == {"train": 95, "clean": 5, **whole}
    assert drawn("imagefolder_clean", counts) == {"train": 0, "clean": 100, **whole}
    assert drawn("imagefolder", counts, validation=7, test=0) == {"train": 95, "clean": 5, "validation": 7, "test": 0}
    assert drawn("imagefolder_clean", {"all": 100}) == {"train": 0, "clean": 100, "validation": 0, "test": 0}
    assert drawn("imagefolder", {"train": 100, "test": 30}) == {"train": 90, "clean": 5, "validation": 5, "test": 30}
    with pytest.raises(InputError, match=r"dataset.split.clean=given: a number of images, a share below 1, or all$"):
        drawn("imagefolder", counts, clean="given")


# -------------------------------------------------------------------------------------------------------------- files


def test_a_jfif_file_is_a_jpeg(tmp_path: Path) -> None:
    root = photos(tmp_path)
    draw(root / "cat" / "photo.jfif", 200, format="JPEG")
    assert 200 in pixels(load(root))


@pytest.mark.parametrize("image_size", ["native", 3])
def test_an_orientation_is_ignored_with_a_word_or_applied(image_size: int | str, tmp_path: Path) -> None:
    root = photos(tmp_path)
    exif = Image.Exif()
    exif[274] = 3  # upside down
    turned = np.zeros((4, 4), np.uint8)
    turned[0] = 240
    Image.fromarray(turned).save(root / "cat" / "turned.jpg", exif=exif, quality=100)
    exif[274] = 1
    Image.fromarray(turned).save(root / "cat" / "upright.jpg", exif=exif, quality=100)
    found = {}
    for orientation in ("ignored", "applied"):
        source = ImageFolder(str(root), 1, image_size, "auto", orientation, "x").load()
        found[orientation] = source.parts["all"].images[2, 0], source.parts["all"].images[3, 0]
        told = [
            note for note in source.notes if note.startswith("1 images carry an EXIF orientation, which is ignored")
        ]
        assert len(told) == len(source.notes) == (orientation == "ignored")
    assert torch.equal(found["ignored"][0], found["ignored"][1])
    assert torch.equal(found["applied"][1], found["ignored"][1])
    assert torch.equal(found["applied"][0], found["ignored"][1].flip(0))
    with pytest.raises(InputError, match=r"dataset.orientation=turn: ignored or applied"):
        load(root, orientation="turn")


@pytest.mark.parametrize("damage", [b"XX*\0", b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0", b"II"])
def test_damaged_metadata_do_not_cost_an_image(damage: bytes, tmp_path: Path) -> None:
    root = photos(tmp_path)
    draw(root / "cat" / "odd.jpg", 200, exif=b"Exif\0\0" + damage)
    assert 200 in pixels(load(root, orientation="applied"))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_palette_with_transparency_is_decoded_without_a_warning(channels: int, tmp_path: Path, recwarn) -> None:
    root = photos(tmp_path)
    palette = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4), "P")
    palette.putpalette([value for index in range(16) for value in (index, 2 * index, 250 - index)])
    palette.save(root / "cat" / "clear.png", transparency=bytes(range(16)))
    palette.save(root / "cat" / "full.png")
    source = ImageFolder(str(root), channels, "native", "auto", "ignored", "x").load()
    clear, full = source.parts["all"].images[2:4]
    assert torch.equal(clear, full)
    assert source.notes == ()
    assert not recwarn.list


def test_what_pillow_warns_of_is_told_once_and_not_on_the_terminal(tmp_path: Path, monkeypatch, recwarn) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    (note,) = load(photos(tmp_path)).notes
    assert note.startswith("Pillow warns: Image size (16 pixels) exceeds limit of 10 pixels")
    assert not recwarn.list


def test_large_images_are_announced(tmp_path: Path, caplog) -> None:
    for name in ("cat", "dog"):
        draw(tmp_path / name / "0.png", 1, size=(160, 320))
    with caplog.at_level("INFO", logger="mcr"):
        notes = load(tmp_path).notes
    assert "2 images of 320x160: each takes a network 50 times the memory and time of one of 32x32" in caplog.text
    assert notes == (f"a single image of cat, dog in {tmp_path.name}/",)


def test_images_that_hardly_fit_into_memory_are_announced(tmp_path: Path, monkeypatch, caplog) -> None:
    root = photos(tmp_path)  # 96 bytes of pixels
    for pages, told in ((191, True), (192, False)):
        monkeypatch.setattr("mcr.datasets.decoding.os.sysconf", {"SC_PHYS_PAGES": pages, "SC_PAGE_SIZE": 1}.get)
        caplog.clear()
        load(root)
        assert ("the decoded images take" in caplog.text) == told


def test_an_image_folder_is_written_once_and_not_gathered_first(tmp_path: Path, monkeypatch) -> None:
    """Each image goes to its place at once; a list of all of them would double the memory."""
    from mcr.datasets import decoding

    monkeypatch.setattr(np, "stack", None)
    alive: list[int] = []
    places = decoding.for_all

    def for_all(function, files):
        results = places(function, files)
        alive.extend(isinstance(part, np.ndarray) for result in results for part in result)
        return results

    monkeypatch.setattr(decoding, "for_all", for_all)
    assert len(load(photos(tmp_path)).parts["all"].labels) == 6
    assert alive
    assert not any(alive)


def test_classes_that_are_hardly_shown_are_told(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    photos(root, ("cat", "dog"), count=10)
    photos(root, ("eel",), count=1)
    source = load(root, ["cat", "-", "dog", "eel"])
    inputs = {name: tmp_path / name for name in ("data", "split")}
    for place in inputs.values():
        place.mkdir()
    artifacts.write_source(source, inputs["data"])
    order = torch.arange(21)
    splits = {"test": order[:6], "train": order[6:20], "clean": order[:0], "validation": order[20:]}
    files.save(splits, inputs["split"] / artifacts.SPLIT)
    assert own_images.warnings(inputs) == [
        f"a single image of eel in {root.name}/",
        "fewer than 5 test images of dog (0), eel (0)",
        "no more than one image to train with of eel (0)",
    ]

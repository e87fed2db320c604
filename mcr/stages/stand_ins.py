"""What a stage needs, where only the time that it takes is asked: real images, and networks that nobody has trained."""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcr.curves.curve import Curve
from mcr.datasets.batches import EvaluationBatches
from mcr.datasets.split import SPLITS, home
from mcr.stages import model, session
from mcr.stages.artifacts import CONTROL, SPLIT, read_labels, read_spec, read_split, write_network
from mcr.stages.context import Context
from mcr.store.build import build
from mcr.store.stage import Stage
from mcr.store.store import Store
from mcr.weightspace import files
from mcr.weightspace.layout import Layout
from mcr.weightspace.subspace import control_points, inner_points

IMAGES = 128  # that a probe is asked on, and that BatchNorm is estimated from where that is not what is measured
SMALL = 1e-6  # of a ball's radius
NETWORKS = ("train", "load", "edit", "extract")  # stages that give one


@dataclass
class StandIns:
    """Folders in the place of what stages need: those of the store where they are there, others below a folder.

    Attributes:
        store: Is read only.
        folder: For what is made.
        context: Of what is made.
    """

    store: Store
    folder: Path
    context: Context

    def of(self, stage: Stage, images: int | None = None) -> dict[str, Path]:
        """Role to folder.

        Args:
            stage: That needs them.
            images: Only so many images in the split that the stage is trained on; None for all.
        """
        return {role: self._one(need, stage, images) for role, need in stage.needs.items()}

    def withstanding(self, stage: Stage, inputs: Mapping[str, Path]) -> tuple[Stage, dict[str, Path]]:
        """A question about attacks that half of the images withstand, as nobody knows yet how many do.

        Networks that nobody has trained are wrong about most images, and attacks may leave those alone. Half of the
        labels become the predictions of the network, and the ball so small that it changes no prediction.

        Args:
            stage: A ``measure`` stage, on a number of images.
            inputs: Of it; where its networks are those of the store, nothing is changed.
        """
        trained = all(self.store.has(need) for role, need in stage.needs.items() if _is_end(role))
        kind = stage.config["data"]
        if trained or kind not in SPLITS or not _attacks(stage.config["probe"]):
            return stage, dict(inputs)
        placed, config = stage.needs["place"].config, stage.config
        part = read_split(dict(inputs), kind, self.context.device_name, config["images"])
        data = EvaluationBatches(part.images, part.labels, config["batch_size"], placed["memory_format"])
        space = session.subspace(placed, inputs, inputs["subspace"], self.context)
        places, statistics = session.read_places(inputs["place"])
        network = space.at_with(places[len(places) // 2], statistics[len(places) // 2]).eval()
        with torch.no_grad():
            predicted = torch.cat([network(images).argmax(1).cpu() for images, _ in data])
        spec = read_spec(inputs["data"])
        predicted[1::2] = (predicted[1::2] + 1) % len(spec.classes)
        where = home(kind, spec.counts)
        labels = read_labels(inputs["data"], where)
        labels[files.load(inputs["split"] / SPLIT)[kind][: len(predicted)].long()] = predicted
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        for path in inputs["data"].iterdir():
            (folder / path.name).symlink_to(path)
        (folder / f"{where}_labels.npy").unlink()
        np.save(folder / f"{where}_labels.npy", labels.numpy(), allow_pickle=False)
        small = replace(stage, config={**config, "probe": _small_balls(config["probe"])})
        return small, {**inputs, "data": folder}

    def _one(self, need: Stage, user: Stage, images: int | None) -> Path:
        cut = images is not None and need.name in ("split", "poison")
        place = self.folder / need.name / (f"{need.key}-{images}" if cut else need.key)
        if need.name == "measure":
            # Where another probe is worst: its own places are those of the user, of whom there are few.
            need = replace(need, needs={**need.needs, "place": user.needs["place"]})
            place = self.folder / need.name / f"{need.key}-{user.needs['place'].key}"
        if self.store.has(need) and not cut and need.name not in ("place", "measure"):
            return self.store.folder(need)
        if not place.exists():
            place.mkdir(parents=True)
            self._make(need, user, images, place)
        return place

    def _make(self, need: Stage, user: Stage, images: int | None, place: Path) -> None:
        placed = user.needs["place"].config if user.name == "measure" else user.config
        if need.name == "split" and images is not None:
            whole = files.load(self._one(need, user, None) / SPLIT)
            # Who has no material chooses images of the train split to be poisoned.
            name = user.config["material"]["split"] if "material" in user.config else "train"
            files.save(whole | {name: whole[name][:images]}, place / SPLIT)
        elif need.name in NETWORKS:
            data = {"data": self._one(user.needs["data"], user, None)}
            # All alike, so that one network is everywhere between them.
            write_network(model.make(placed, read_spec(data["data"]), "stand-in"), place)
        elif need.name == "connect":
            if user.name == "connect":  # a curve at an edge of the surface that is fitted
                placed, user = {**need.config, "memory_format": need.config["recipe"]["memory_format"]}, need
            self._connect(placed, user, place)
        else:
            compute = importlib.import_module(f"mcr.stages.{need.name}").compute
            small = few_images(need) if need.name == "measure" else need
            compute(small, self.of(small, images), place, self.context)
        shutil.rmtree(place / "checkpoints", ignore_errors=True)

    def _connect(self, placed: Mapping[str, Any], user: Stage, place: Path) -> None:
        """Control points before anything is fitted."""
        inputs = {role: self._one(need, user, None) for role, need in user.needs.items() if _is_end(role)}
        inputs |= {"data": self._one(user.needs["data"], user, None)}
        curve: Curve = build(placed["curve"])
        free = inner_points(curve)
        if not free:
            files.save({}, place / CONTROL)
            return
        network = model.make(placed, read_spec(inputs["data"]), "evaluation")
        layout = Layout.of(network, placed["memory_format"])
        ends = [layout.pack(state) for state in session.ends(inputs)]
        session.write_control(list(control_points(curve, ends)), free, layout, place)


def _is_end(role: str) -> bool:
    return role.startswith(session.END)


def _attacks(probe: Any) -> bool:
    """Whether a part of a probe has a ball."""
    return isinstance(probe, Mapping) and ("eps" in probe or any(map(_attacks, probe.values())))


def _small_balls(probe: Any) -> Any:
    """A probe with all its balls so small that no image in them is another one."""
    if not isinstance(probe, Mapping):
        return probe
    return {key: SMALL * value if key == "eps" else _small_balls(value) for key, value in probe.items()}


def few_images(stage: Stage, most: int = IMAGES) -> Stage:
    """A question on so many images at most."""
    wanted = stage.config["images"]
    return replace(stage, config={**stage.config, "images": most if wanted == "all" else min(wanted, most)})


def few_places(stage: Stage) -> Stage:
    """The ends, and one place in the middle."""
    curve: Curve = build(stage.config["curve"])
    middle: torch.Tensor = curve.grid(2).mean(0)
    return replace(stage, config={**stage.config, "at": [middle.tolist()] if curve.dim > 1 else middle.tolist()})


def few_for_batchnorm(stage: Stage) -> Stage:
    """Places whose statistics are estimated from few images."""
    part = stage.config["batchnorm"]
    few = IMAGES if part["images"] == "all" else min(part["images"], IMAGES)
    return replace(stage, config={**stage.config, "batchnorm": {**part, "images": few}})

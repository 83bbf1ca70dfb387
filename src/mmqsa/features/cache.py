"""The feature cache: one HDF5 file per data set and split.

    features   (num_images, N, D) float16, contiguous
    classes    (num_images, S, S) uint8, 255 = void
    instances  (num_images, S, S) uint8, 255 = void
    image_id   (num_images,) str
    done       (num_images,) bool
    boxes      (M, 4) float32, x0 y0 x1 y1 in px
    box_image  (M,) int64, the image of each box

``classes``, ``instances`` and boxes are absent where the data set has none. An unlabelled image
among labelled ones has void everywhere. ``attributes`` says what made the features, and is compared
on every use; its ``features_sha256``, of their bytes in order, tells caches apart that were made
alike. ``versions`` of the packages are recorded, not compared.
"""

import errno
import hashlib
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from mmqsa.data.geometry import Geometry, mean_colour
from mmqsa.errors import InputError, MachineError

BLOCK = 64  # images that are hashed at a time


class FeatureCache:
    """A finished cache, opened for reading; arrays are read when they are asked for."""

    def __init__(self, path: str | Path):
        """Raises InputError when the file is missing, damaged or not finished."""
        self.path = Path(path)
        try:
            self._file = h5py.File(self.path, "r", locking=False)
            self.attributes = read_attributes(self._file)
            self.features: h5py.Dataset = self._file["features"]
            """Patch features (num_images, N, D) float16."""
            finished = bool(self._file["done"][:].all())
        except FileNotFoundError:
            raise InputError(f"{path}: no such feature cache; run `mmqsa extract`") from None
        except (OSError, KeyError) as error:
            raise InputError(
                f"{path}: not a readable feature cache ({error}); delete it and run "
                "`mmqsa extract` again"
            ) from None
        if not finished:
            raise InputError(f"{path}: extraction has not finished; run `mmqsa extract` again")

    @property
    def ids(self) -> list[str]:
        return [image_id.decode() for image_id in self._file["image_id"][:]]

    def read(self, rows: int | slice | list[int]) -> np.ndarray:
        """Features of these images, (N, D) or (B, N, D) float16.

        Raises InputError when they are not finite: masks made of them would mean nothing.
        """
        features = self.features[rows]
        finite = np.isfinite(features).all(axis=(-2, -1))  # () or (B,)
        if not finite.all():
            image = np.extract(~finite, np.array(self.ids)[rows])[0]
            raise InputError(
                f"{self.path}: the features of {image} are not finite; delete the cache and "
                "extract it again"
            )
        return features

    @property
    def classes(self) -> h5py.Dataset | None:
        """Class label maps (num_images, S, S) uint8."""
        return self._file.get("classes")

    @property
    def instances(self) -> h5py.Dataset | None:
        """Instance label maps (num_images, S, S) uint8."""
        return self._file.get("instances")

    @cached_property
    def boxes(self) -> list[np.ndarray] | None:
        """Each image's boxes (M, 4), x0 y0 x1 y1 in px of the square."""
        if "boxes" not in self._file:
            return None
        boxes, image = self._file["boxes"][:].astype(np.float64), self._file["box_image"][:]
        return [boxes[image == index] for index in range(len(self._file["image_id"]))]

    @property
    def name(self) -> str:
        """The stem of its metrics files: data set, split, and what was done to the images."""
        geometry, corruption = self.attributes["geometry"], self.attributes.get("corruption")
        parts = [self.attributes["dataset"], self.attributes["split"]]
        parts += [geometry] if geometry != "crop" else []
        return "-".join(parts + ([corruption] if corruption else []))

    def square(self, photograph: Image.Image) -> np.ndarray:
        """A photograph in the cache's geometry, (S, S, 3) uint8."""
        colour = mean_colour(self.attributes["mean"])
        return Geometry(self.attributes["geometry"], self.side, colour).image(photograph)

    @property
    def grid(self) -> int:
        """Patches a side."""
        return self.attributes["grid"]

    @property
    def side(self) -> int:
        """S: px a side of the label maps."""
        return self.attributes["image_size"]

    @property
    def fingerprint(self) -> str:
        """sha256 of all attributes, those of the features included: equal for equal caches."""
        text = json.dumps(self.attributes, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def network(self) -> dict[str, Any]:
        """The attributes that must be equal in every cache that one model is used on."""
        return {name: self.attributes[name] for name in NETWORK_ATTRIBUTES}


NETWORK_ATTRIBUTES = (
    "backbone",
    "weights_sha256",
    "feature",
    "blocks",
    "combine",
    "image_size",
    "grid",
    "mean",
    "std",
    "position_rule",
    "precision",
)


def read_attributes(file: h5py.File) -> dict[str, Any]:
    """What made a cache, finished or not."""
    return json.loads(file.attrs["attributes"])


def check_attributes(
    attributes: dict[str, Any],
    expected: dict[str, Any],
    path: str | Path,
    reader: str = "this stage",
) -> None:
    """Raises InputError that shows the first difference, and which reader expects it."""
    for name, value in expected.items():
        if attributes.get(name) != value:
            raise InputError(
                f"{path}: made with {name} = {attributes.get(name)!r}, but {reader} expects "
                f"{value!r}; use what it was made with, or delete it and extract again"
            )


class CacheWriter:
    """A cache being filled: ``PATH.partial`` until every image is done, then renamed."""

    def __init__(
        self,
        path: Path,
        ids: list[str],
        attributes: dict[str, Any],
        versions: dict[str, str],
        shape: tuple[int, int],
    ):
        """``shape`` is (N, D). An unfinished file with the same attributes is resumed."""
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        self.partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file = h5py.File(self.partial, "a")
        except BlockingIOError:
            raise InputError(
                f"{self.partial}: another process is extracting into it; wait for it"
            ) from None
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EROFS, errno.ENOSPC):
                raise MachineError(f"{self.partial}: {os.strerror(error.errno)}") from None
            raise InputError(
                f"{self.partial}: damaged ({error}); delete it to start over"
            ) from None
        if "done" in self._file:
            check_attributes(read_attributes(self._file), attributes, self.partial)
            self._boxed: set[int] = set(self._file["box_image"][:])
            return
        self._boxed = set()
        num_images = len(ids)
        self._file.attrs["attributes"] = json.dumps(attributes)
        self._file.attrs["versions"] = json.dumps(versions)
        self._file.create_dataset("features", (num_images, *shape), "f2")
        self._file.create_dataset("image_id", data=np.array(ids, dtype="S"))
        self._file.create_dataset("boxes", (0, 4), "f4", maxshape=(None, 4))
        self._file.create_dataset("box_image", (0,), "i8", maxshape=(None,))
        self._file.create_dataset("done", data=np.zeros(num_images, dtype=bool))
        self._file.flush()

    @property
    def pending(self) -> np.ndarray:
        """Indices of the images that are still to be done."""
        return np.flatnonzero(~self._file["done"][:])

    def write(
        self, indices: np.ndarray, features: np.ndarray, labels: dict[str, list], boxes: list
    ) -> None:
        """Store a batch: features (B, N, D), per kind a list of (S, S) label maps or None, boxes.

        Raises InputError when they cannot be written; what was stored before stays.
        """
        try:
            self._file["features"][indices] = features
            for kind, maps in labels.items():
                for index, label_map in zip(indices, maps, strict=True):
                    if label_map is not None:
                        self._labels(kind, label_map.shape)[index] = label_map
            for index, of_image in zip(indices, boxes, strict=True):
                if of_image is not None and len(of_image):
                    self._append(index, of_image)
            self._file["done"][indices] = True
            self._file.flush()
        except OSError as error:
            reason = " ".join(str(error).split())
            raise MachineError(
                f"{self.partial}: cannot be written ({reason}); make room, and run the same "
                "command again to continue"
            ) from None

    def _labels(self, kind: str, shape: tuple[int, int]) -> h5py.Dataset:
        if kind not in self._file:
            whole = (len(self._file["done"]), *shape)
            self._file.create_dataset(kind, whole, "u1", fillvalue=255)  # void
        return self._file[kind]

    def _append(self, index: int, boxes: np.ndarray) -> None:
        # A batch that was cut off between its boxes and its `done` is written again.
        if index in self._boxed:
            return
        self._boxed.add(index)
        count = len(self._file["boxes"])
        for name in ("boxes", "box_image"):
            self._file[name].resize(count + len(boxes), axis=0)
        self._file["boxes"][count:] = boxes
        self._file["box_image"][count:] = index

    def finish(self) -> None:
        """Add the features' digest, close the file and rename it. All images must be done."""
        assert not len(self.pending)
        digest, features = hashlib.sha256(), self._file["features"]
        for start in range(0, len(features), BLOCK):
            digest.update(features[start : start + BLOCK])
        attributes = read_attributes(self._file) | {"features_sha256": digest.hexdigest()}
        self._file.attrs["attributes"] = json.dumps(attributes)
        if not len(self._file["boxes"]):
            del self._file["boxes"], self._file["box_image"]
        self._file.close()
        self.partial.replace(self.path)

    def close(self) -> None:
        self._file.close()

"""The feature cache: one HDF5 file per data set and split.

    features   (num_images, N, D) float16, contiguous
    classes    (num_images, S, S) uint8, 255 = void
    instances  (num_images, S, S) uint8, 255 = void
    image_id   (num_images,) str
    done       (num_images,) bool
    boxes      (M, 4) float32, x0 y0 x1 y1 in px
    box_image  (M,) int64, the image of each box

Photographs at their own size (the geometry ``native``) have no one grid. There ``features`` are
(patches of all images, D), image after image, and there are no label maps but

    size       (num_images, 2) int32, width and height in px

from which the grid of each follows: as many patches as cover it. Boxes are in px of the photograph.

``classes``, ``instances`` and boxes are absent where the data set has none. An unlabelled image
among labelled ones has void everywhere. ``attributes`` says what made the features, and is compared
on every use; its ``features_sha256``, of their bytes in order, tells caches apart that were made
alike. ``versions`` of the packages are recorded, not compared.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from mmqsa.data.box_faults import BoxFaults
from mmqsa.data.geometry import VOID, Geometry, mean_colour
from mmqsa.errors import InputError
from mmqsa.features.attributes import NETWORK_ATTRIBUTES
from mmqsa.features.cache_file import is_native, open_cache
from mmqsa.features.grids import Grid, alike, grids_of, starts_of

__all__ = ["FeatureCache", "Rows"]

Index = int | slice | list[int]


class Rows:
    """An array of a cache, (num_images, …): what is read of it is checked, image by image."""

    def __init__(self, dataset: h5py.Dataset, check: Callable[[np.ndarray, Index], None]):
        self.dataset, self._check = dataset, check
        self.shape, self.dtype = dataset.shape, dataset.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Index) -> np.ndarray:
        """Raises InputError that names the cache and the image."""
        values = self.dataset[rows]
        self._check(values, rows)
        return values


class FeatureCache:
    """A finished cache, opened for reading; arrays are read when they are asked for.

    >>> cache = FeatureCache("val.h5")
    >>> cache.features.shape, cache.classes.shape, cache.grid, cache.side
    ((6, 36, 192), (6, 96, 96), 6, 96)
    >>> cache.ids[:2], cache.attributes["backbone"]
    (['val_00000', 'val_00001'], 'vit_tiny_patch16_224')
    >>> cache.features[0].dtype  # an image is read when it is asked for
    dtype('float16')

    Where photographs have their own size, ``features``, ``grid`` and ``square`` raise InputError:
    a stage that needs squares refuses such a cache. ``of_image`` and ``of_batch`` read both.
    """

    def __init__(self, path: str | Path):
        """Raises InputError when the file is missing, damaged, of another kind or not finished."""
        self.path = Path(path)
        self._file, self.attributes = open_cache(self.path)

    @property
    def ids(self) -> list[str]:
        return [image_id.decode() for image_id in self._file["image_id"][:]]

    @property
    def features(self) -> Rows:
        """Patch features (num_images, N, D) float16. Raises InputError where N differs."""
        self.check_squares()
        return Rows(self._file["features"], self._check_finite)

    @property
    def is_native(self) -> bool:
        """Whether its photographs have their own size, and so each a grid of its own."""
        return is_native(self.attributes)

    def check_squares(self) -> None:
        """Raises InputError where photographs have their own size."""
        if self.is_native:
            raise InputError(
                f"{self.path}: holds photographs at their own size, each with another number of "
                "patches; they are for boxes alone: give this stage a cache of squares "
                "(`mmqsa extract` without --variant native)"
            )

    @cached_property
    def grids(self) -> np.ndarray:
        """Rows and columns of each image's patches (num_images, 2)."""
        if self.is_native:
            return grids_of(self._file["size"][:], self.patch)
        return np.full((len(self.ids), 2), self.grid)

    @cached_property
    def _starts(self) -> np.ndarray:
        return starts_of(self.grids)

    def of_image(self, index: int) -> np.ndarray:
        """Patch features (N, D) float16 of an image. Raises InputError as ``features`` do."""
        if not self.is_native:
            return self.features[index]
        first, end = self._starts[index : index + 2]
        features = self._file["features"][first:end]
        self._check_finite(features, index)
        return features

    def batches(self, size: int) -> list[Sequence[int]]:
        """The indices of all images, at most ``size`` at a time: of one grid each, ascending."""
        num_images = len(self.ids)
        if self.is_native:
            return [one.tolist() for one in alike(np.arange(num_images), self.grids, size)]
        return [range(at, min(at + size, num_images)) for at in range(0, num_images, size)]

    def of_batch(self, indices: Sequence[int]) -> np.ndarray:
        """Patch features (B, N, D) float16 of one of ``batches``."""
        if self.is_native:
            return np.stack([self.of_image(index) for index in indices])
        return self.features[indices[0] : indices[-1] + 1]

    def grid_of(self, index: int) -> Grid:
        """Rows and columns of an image's patches."""
        rows, columns = self.grids[index].tolist()
        return rows, columns

    def size(self, index: int) -> tuple[int, int]:
        """Width and height, px, of what boxes of an image are in: the photograph, or the square."""
        if not self.is_native:
            return self.side, self.side
        width, height = self._file["size"][index].tolist()
        return width, height

    @property
    def classes(self) -> Rows | None:
        """Class label maps (num_images, S, S) uint8."""
        labels = self._file.get("classes")
        return None if labels is None else Rows(labels, self._check_classes)

    @property
    def instances(self) -> h5py.Dataset | None:
        """Instance label maps (num_images, S, S) uint8."""
        return self._file.get("instances")

    def _check_finite(self, features: np.ndarray, rows: Index) -> None:
        """Masks made of features that are not finite would mean nothing."""
        self._check(np.isfinite(features).all(axis=(-2, -1)), rows, "features are not finite")

    def _check_classes(self, labels: np.ndarray, rows: Index) -> None:
        known = (labels <= self.attributes["num_classes"]) | (labels == VOID)
        self._check(known.all(axis=(-2, -1)), rows, "labels are of unknown classes")

    def _check(self, good: np.ndarray, rows: Index, fault: str) -> None:
        """``good`` () or (B,): whether each of the images ``rows`` is as it must be."""
        if not good.all():
            image = np.extract(~good, np.array(self.ids)[rows])[0]
            raise InputError(
                f"{self.path}: of {image} the {fault}; delete the cache and extract it again"
            )

    @cached_property
    def boxes(self) -> list[np.ndarray] | None:
        """Each image's boxes (M, 4), x0 y0 x1 y1 in px of the square, or of the photograph."""
        if "boxes" not in self._file:
            return None
        image = self._file["box_image"][:]
        boxes = self._file["boxes"][:][np.argsort(image, kind="stable")].astype(np.float64)
        return np.split(boxes, np.cumsum(np.bincount(image, minlength=len(self.ids)))[:-1])

    @cached_property
    def box_faults(self) -> BoxFaults:
        """Images with boxes of less than a pixel; what lay outside was cut off when stored."""
        faults = BoxFaults()
        for index, (image_id, boxes) in enumerate(zip(self.ids, self.boxes or [], strict=False)):
            faults.look(image_id, boxes, self.size(index))
        return faults

    @property
    def name(self) -> str:
        """The stem of its metrics files: data set, split, and what was done to the images."""
        geometry, corruption = self.attributes["geometry"], self.attributes.get("corruption")
        parts = [self.attributes["dataset"], self.attributes["split"]]
        parts += [geometry] if geometry != "crop" else []
        return "-".join(parts + ([corruption] if corruption else []))

    def square(self, photograph: Image.Image) -> np.ndarray:
        """A photograph in the cache's geometry, (S, S, 3) uint8."""
        self.check_squares()
        colour = mean_colour(self.attributes["mean"])
        return Geometry(self.attributes["geometry"], self.side, colour).image(photograph)

    @property
    def patch(self) -> int:
        """Side of a patch, px."""
        return self.attributes["image_size"] // self.attributes["grid"]

    @property
    def grid(self) -> int:
        """Patches a side of the square."""
        self.check_squares()
        return self.attributes["grid"]

    @property
    def side(self) -> int:
        """S: px a side of the label maps; where there are none, of the square of controls."""
        return self.attributes["image_size"]

    @property
    def fingerprint(self) -> str:
        """sha256 of all attributes, those of the features included: equal for equal caches."""
        text = json.dumps(self.attributes, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def network(self) -> dict[str, Any]:
        """What must be equal in every cache that one model is used on."""
        attributes = {name: self.attributes[name] for name in NETWORK_ATTRIBUTES}
        patches = self.attributes["grid"] ** 2  # of the square of that network
        return attributes | {"features": (patches, self._file["features"].shape[-1])}

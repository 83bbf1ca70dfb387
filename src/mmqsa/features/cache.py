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

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from mmqsa.data.geometry import VOID, Geometry, mean_colour
from mmqsa.errors import InputError
from mmqsa.features.attributes import NETWORK_ATTRIBUTES
from mmqsa.features.cache_file import open_cache

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
        """Patch features (num_images, N, D) float16."""
        return Rows(self._file["features"], self._check_finite)

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
        """Each image's boxes (M, 4), x0 y0 x1 y1 in px of the square."""
        if "boxes" not in self._file:
            return None
        image = self._file["box_image"][:]
        boxes = self._file["boxes"][:][np.argsort(image, kind="stable")].astype(np.float64)
        return np.split(boxes, np.cumsum(np.bincount(image, minlength=len(self.ids)))[:-1])

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
        """What must be equal in every cache that one model is used on."""
        attributes = {name: self.attributes[name] for name in NETWORK_ATTRIBUTES}
        return attributes | {"features": self.features.shape[1:]}

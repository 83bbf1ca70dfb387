"""Writing of a feature cache, batch by batch, so that an interrupted extraction goes on."""

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mmqsa.config.base import validated
from mmqsa.config.files import check_regular
from mmqsa.errors import InputError, MachineError
from mmqsa.features.attributes import CacheAttributes, check_attributes
from mmqsa.features.cache_file import check_cache, closed_if_bad
from mmqsa.features.grids import grids_of, starts_of

BLOCK, PATCHES = 64, 400  # images that are hashed at a time, and patches of one, or about so many


class CacheWriter:
    """A cache being filled: ``PATH.partial`` until every image is done, then renamed.

    Who writes it has ``path`` claimed.
    """

    def __init__(
        self,
        path: Path,
        ids: list[str],
        attributes: dict[str, Any],
        versions: dict[str, str],
        shape: tuple[int, int],
        sizes: np.ndarray | None = None,
    ):
        """``shape`` is (N, D). An unfinished file with the same attributes is resumed.

        For photographs at their own size, ``sizes`` are their widths and heights (num_images, 2),
        and N is a square's that the attributes name.
        """
        validated(CacheAttributes, attributes, f"{path}: attributes")  # as its reader will
        self.path, self._starts = path, None
        if sizes is not None:
            patch = attributes["image_size"] // attributes["grid"]
            self._starts = starts_of(grids_of(sizes, patch))
        self.partial = path.with_name(path.name + ".partial")
        self.partial.parent.mkdir(parents=True, exist_ok=True)
        check_regular(self.partial)
        there = self.partial.exists() and self.partial.stat().st_size > 0
        try:
            if not there:
                self.partial.unlink(missing_ok=True)
            self._file = h5py.File(self.partial, "r+" if there else "x")
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EROFS, errno.ENOSPC):
                raise MachineError(f"{self.partial}: {os.strerror(error.errno)}") from None
            raise InputError(
                f"{self.partial}: damaged ({error}); delete it to start over"
            ) from None
        if there:
            with closed_if_bad(self.partial) as opened:
                opened.append(self._file)
                check_attributes(check_cache(self._file, self.partial), attributes, self.partial)
                self._check_rows(ids, shape[1], sizes)
                self._drop_unfinished_boxes()
            return
        num_images = len(ids)
        self._file.attrs["attributes"] = json.dumps(attributes)
        self._file.attrs["versions"] = json.dumps(versions)
        if sizes is None or self._starts is None:
            self._file.create_dataset("features", (num_images, *shape), "f2")
        else:
            self._file.create_dataset("features", (self._starts[-1], shape[1]), "f2")
            self._file.create_dataset("size", data=sizes.astype("<i4"))
        encoded = np.array([image_id.encode() for image_id in ids])
        self._file.create_dataset("image_id", data=encoded)
        self._file.create_dataset("boxes", (0, 4), "f4", maxshape=(None, 4))
        self._file.create_dataset("box_image", (0,), "i8", maxshape=(None,))
        self._file.create_dataset("done", data=np.zeros(num_images, dtype=bool))
        self._file.flush()

    def _check_rows(self, ids: list[str], dim: int, sizes: np.ndarray | None) -> None:
        """Raises InputError unless the unfinished file's rows are those that are to be written."""
        listed = [image_id.decode() for image_id in self._file["image_id"][:]]
        same = sizes is None or np.array_equal(self._file["size"][:], sizes)
        if listed != ids or self._file["features"].shape[-1] != dim or not same:
            raise InputError(
                f"{self.partial}: of other images, or of features of another size; delete it to "
                "start over"
            )

    def _drop_unfinished_boxes(self) -> None:
        """Those of a batch that was cut off before its `done`: it will be written again."""
        if "box_image" not in self._file:
            return
        finished = self._file["done"][:][self._file["box_image"][:]]
        for name in ("boxes", "box_image") if not finished.all() else ():
            rows = self._file[name][:][finished]
            self._file[name].resize(len(rows), axis=0)
            self._file[name][:] = rows

    @property
    def pending(self) -> np.ndarray:
        """Indices of the images that are still to be done."""
        return np.flatnonzero(~self._file["done"][:])

    def write(
        self, indices: np.ndarray, features: np.ndarray, labels: dict[str, list], boxes: list
    ) -> None:
        """Store a batch: features (B, N, D), per kind a list of (S, S) label maps or None, boxes.

        Of photographs at their own size, a batch has one grid, and no label maps.
        Raises MachineError when they cannot be written; what was stored before stays.
        """
        try:
            if self._starts is None:
                self._file["features"][_rows(indices)] = features
            else:
                for index, of_image in zip(indices, features, strict=True):
                    first, end = self._starts[index : index + 2]
                    self._file["features"][first:end] = of_image
            for kind, maps in labels.items():
                there = [label_map is not None for label_map in maps]
                if any(there):
                    stack = np.stack([label_map for label_map in maps if label_map is not None])
                    self._labels(kind, stack.shape[1:])[_rows(indices[there])] = stack
            self._append(indices, boxes)
            self._file.flush()
            self._file["done"][_rows(indices)] = True
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

    def _append(self, indices: np.ndarray, boxes: list) -> None:
        """The boxes of a batch at once: a call per image takes longer than a GPU's features."""
        new = {
            index: of_image
            for index, of_image in zip(indices.tolist(), boxes, strict=True)
            if of_image is not None and len(of_image)
        }
        if not new:
            return
        count, stored = len(self._file["boxes"]), np.concatenate(list(new.values()))
        image = np.repeat(list(new), [len(of_image) for of_image in new.values()])
        try:
            for name, rows in (("boxes", stored), ("box_image", image)):
                self._file[name].resize(count + len(rows), axis=0)
                self._file[name][count:] = rows
        except OSError:
            for name in ("boxes", "box_image"):  # rows that are not written would be of image 0
                self._file[name].resize(count, axis=0)
            raise

    def finish(self) -> None:
        """Add the features' digest, close the file and rename it. All images must be done."""
        assert not len(self.pending)
        digest, features = hashlib.sha256(), self._file["features"]
        block = BLOCK if self._starts is None else BLOCK * PATCHES
        for start in range(0, len(features), block):
            digest.update(features[start : start + block])
        attributes = json.loads(self._file.attrs["attributes"]) | {
            "features_sha256": digest.hexdigest()
        }
        self._file.attrs["attributes"] = json.dumps(attributes)
        if "boxes" in self._file and not len(self._file["boxes"]):
            del self._file["boxes"], self._file["box_image"]
        self._file.close()
        self.partial.replace(self.path)

    def close(self) -> None:
        self._file.close()


def _rows(indices: np.ndarray) -> slice | np.ndarray:
    """Ascending indices, as a slice where none is left out: HDF5 is slow at lists."""
    first, last = int(indices[0]), int(indices[-1])
    return slice(first, last + 1) if last - first + 1 == len(indices) else indices

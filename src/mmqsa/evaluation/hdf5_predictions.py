"""Predictions in an HDF5 file: one array of all images beside ``image_id``, or one for each image.

A file may promise more than it holds: HDF5 makes up what was never written, follows links into
other files, and unpacks a whole chunk to read one of its pixels. So everything is checked before
it is read.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py

from mmqsa.config.files import quoted
from mmqsa.errors import InputError
from mmqsa.evaluation.label_map_file import HEADS
from mmqsa.evaluation.prediction_files import (
    Prediction,
    Size,
    check_size,
    refused_if_damaged,
    slots_of,
)
from mmqsa.evaluation.prediction_names import check_complete, matched, stand_for
from mmqsa.progress import notice

__all__ = ["Hdf5Predictions"]

LISTING = "image_id"
MAX_BYTES = 256_000_000  # of a chunk, unpacked, and of the listing
MAX_LINKS = 8  # of which one leads to the next
Place = tuple[h5py.Dataset, Any]  # an array, and what of it is an image's


class Hdf5Predictions:
    """An HDF5 file: (N, h, w) beside ``image_id``, or a data set (h, w) for each image id."""

    def __init__(self, path: Path, ids: Sequence[str], array: str | None):
        """Raises InputError as `open_predictions` does."""
        self.path, self._noticed = path, False
        with refused_if_damaged(path, "HDF5"):
            self._file = h5py.File(path, "r", locking=False)
            listing = _object(self._file, LISTING)
            is_listed = isinstance(listing, h5py.Dataset)
            self._places: dict[str, Place] = (
                self._of_all(listing, ids, array) if is_listed else self._by_image(ids, array)
            )

    def _of_all(
        self, listing: h5py.Dataset, ids: Sequence[str], array: str | None
    ) -> dict[str, Place]:
        """The row of each image in the array of all."""
        names = _names(listing, f"{self.path}: {LISTING}")
        rows = {name: row for row, name in enumerate(names)}
        if len(rows) < len(names):
            raise InputError(f"{self.path}: an image_id is there twice; remove one")
        found = matched(rows, ids, self.path)
        expected = f"{ids[0]} and so on in image_id"
        check_complete(found, ids, self.path, expected, names)
        name, chosen = self._chosen(len(names), array)
        check_array(chosen, f"{self.path}: {name}", stacked=True)
        written = _written(chosen)
        for image_id in ids:
            _check_written(written(rows[found[image_id]]), f"{self.path}: {name}: {image_id}")
        return {image_id: (chosen, rows[name]) for image_id, name in found.items()}

    def _by_image(self, ids: Sequence[str], array: str | None) -> dict[str, Place]:
        """The array of each image, in the group that ``array`` names, or at the top."""
        group, prefix = _object(self._file, array or "/"), f"{array}/" if array else ""
        if not isinstance(group, h5py.Group):
            raise InputError(f"{self.path}: --array {array}: is no group of this file")
        found, names = matched(group, ids, self.path), sorted(group)
        inner = {name: one for name in names if isinstance(one := _object(group, name), h5py.Group)}
        for name, one in inner.items():
            if not found and stand_for(one, ids):
                raise InputError(f"{self.path}: {name} is a group; give --array {prefix}{name}")
        expected = f"a data set {prefix}{ids[0]} and so on, or image_id beside one"
        check_complete(found, ids, self.path, expected, names)
        places: dict[str, Place] = {}
        for image_id, name in found.items():
            about, one = f"{self.path}: {prefix}{name}", _object(group, name)
            if one is None:
                raise InputError(
                    f"{self.path}: has no prediction of {image_id}: {prefix}{name} is a link to "
                    "nothing, or into another file; store the array itself"
                )
            check_array(one, about)
            _check_written(_is_whole(one), about)
            places[image_id] = one, ...
        return places

    def _chosen(self, num_images: int, array: str | None) -> tuple[str, h5py.Dataset]:
        """The array of all images that is asked for, or the only one, and its name."""
        arrays: dict[str, h5py.Dataset] = {}  # each once, though it may have several names
        self._file.visititems(
            lambda name, item: arrays.update({name: item} if isinstance(item, h5py.Dataset) else {})
        )
        fitting = {name: one for name, one in arrays.items() if _is_of(one, num_images)}
        if not fitting:
            seen = [f"{name} {one.shape}" for name, one in arrays.items() if name != LISTING]
            more = f" ({quoted(', '.join(seen))})" if seen else ""
            raise InputError(
                f"{self.path}: holds no array (N, h, w) beside image_id, whose N is {num_images}"
                f"{more}"
            )
        if array is not None:
            asked = _object(self._file, array)
            if not (isinstance(asked, h5py.Dataset) and _is_of(asked, num_images)):
                raise InputError(
                    f"{self.path}: --array {array}: expected one of {', '.join(fitting)}"
                )
            return array, asked
        names = [name for name in fitting if not name.startswith(f"{HEADS}/")] or list(fitting)
        if len(names) > 1:
            raise InputError(
                f"{self.path}: holds several arrays; choose one with --array: {', '.join(names)}"
            )
        return names[0], fitting[names[0]]

    def of(self, image_id: str, size: Size | None) -> Prediction:
        (array, place), about = self._places[image_id], f"{self.path}: {image_id}"
        height, width = array.shape[-2:]
        check_size((width, height), size, about)
        with refused_if_damaged(self.path, "HDF5"):
            labels = slots_of(array[place], about)
        if not self._noticed and not labels.any():
            self._noticed = True
            notice(f"{about}: one value alone, so one slot; was it ever written?")
        return Prediction(labels)


def check_array(array: Any, about: str, stacked: bool = False) -> None:
    """Raises InputError on what is no label map, or cannot be read, before it is read.

    ``stacked``: an array of label maps.
    """
    if not isinstance(array, h5py.Dataset):
        raise InputError(f"{about}: is no array; store the label map (h, w) by that name")
    if array.shape is None:
        raise InputError(f"{about}: is empty (a data space without elements); write the label map")
    if array.dtype.kind not in "bui":
        soft = " (soft masks?)" if array.dtype.kind == "f" else ""
        raise InputError(
            f"{about}: {array.dtype} is no label map{soft}; store the number of the winning slot "
            "of each pixel, as whole numbers"
        )
    shape = array.shape[1:] if stacked else array.shape
    if len(shape) != 2 or 0 in shape:
        raise InputError(
            f"{about}: an array of shape {shape} is no label map, which is (h, w); of masks "
            "(K, h, w) store the winning slot of each pixel"
        )
    _check_storage(array, about)


def _check_storage(array: h5py.Dataset, about: str) -> None:
    """Raises InputError where the bytes of an array are elsewhere, or cannot be unpacked."""
    if array.external or array.is_virtual:
        raise InputError(f"{about}: its bytes are in another file; store the array itself")
    properties = array.id.get_create_plist()
    for index in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(index)
        if not h5py.h5z.filter_avail(code):
            called = f" ({name.decode(errors='replace')})" if name else ""
            raise InputError(
                f"{about}: is compressed by filter {code} of HDF5{called}, which is not installed "
                "here; store it with gzip, or as it is"
            )
    packed = array.chunks is not None and properties.get_nfilters()
    if packed and (num_bytes := math.prod(array.chunks) * array.dtype.itemsize) > MAX_BYTES:
        raise InputError(
            f"{about}: is compressed in chunks of {num_bytes / 1e9:.1f} GB, more than "
            f"{MAX_BYTES / 1e9} GB, and one pixel costs a whole chunk; store it with a chunk for "
            "each image"
        )


def _check_written(written: bool, about: str) -> None:
    if not written:
        raise InputError(
            f"{about}: was never written, or in part, and HDF5 gives made-up values in its place; "
            "write the whole label map"
        )


def _written(array: h5py.Dataset) -> Callable[[int], bool]:
    """Tells whether a row of an array has all its bytes; without chunks, all or none have."""
    if array.chunks is None:
        whole = array.id.get_storage_size() >= array.nbytes
        return lambda row: whole
    rows, *others = array.chunks
    stored: Counter[int] = Counter()
    array.id.chunk_iter(lambda chunk: stored.update([chunk.chunk_offset[0] // rows]))
    needed = math.prod(map(_quotient, array.shape[1:], others))
    return lambda row: stored[row // rows] >= needed


def _is_whole(array: h5py.Dataset) -> bool:
    """Whether all bytes of an array were written."""
    step = (array.chunks or array.shape)[0]
    return all(map(_written(array), range(0, len(array), max(step, 1))))


def _quotient(length: int, step: int) -> int:
    """How many steps cover a length."""
    return -(-length // step)


def _is_of(array: h5py.Dataset, num_images: int) -> bool:
    """Whether an array has a map, at least, for each image."""
    return array.shape is not None and array.shape[:1] == (num_images,) and len(array.shape) > 2


def _names(listing: h5py.Dataset, about: str) -> list[str]:
    """The text of a listing (N,)."""
    is_text = listing.dtype.kind in "Siu" or h5py.check_string_dtype(listing.dtype) is not None
    if listing.shape is None or len(listing.shape) != 1 or not is_text:
        raise InputError(
            f"{about}: expected a list of names (N,), text, not {listing.dtype} {listing.shape}"
        )
    if listing.nbytes > MAX_BYTES:
        raise InputError(f"{about}: {listing.shape[0]:,} names; is it the right file?")
    _check_storage(listing, about)
    _check_written(_is_whole(listing), about)
    names = listing[:]
    return [
        name.decode(errors="surrogateescape") if isinstance(name, bytes) else str(name)
        for name in names
    ]


def _object(group: h5py.Group, name: str, links: int = MAX_LINKS) -> Any:
    """What a name leads to in the file itself; None where that is nothing, or another file."""
    found: Any = group
    for part in filter(None, name.split("/")):
        link = found.get(part, getlink=True) if isinstance(found, h5py.Group) else None
        if isinstance(link, h5py.HardLink):
            found = found[part]
        elif isinstance(link, h5py.SoftLink) and links:
            start = found.file if link.path.startswith("/") else found
            found = _object(start, link.path, links - 1)
        else:
            return None
    return found

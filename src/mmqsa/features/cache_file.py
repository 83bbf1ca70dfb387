"""The door of a feature cache: what an HDF5 file must be before a stage reads anything of it.

A file from elsewhere may hold anything: links and raw storage in other files, groups in the place
of arrays, shapes without bytes behind them. Here all of it is refused in one line.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np

from mmqsa.config.files import check_regular
from mmqsa.errors import InputError
from mmqsa.features.attributes import parse_attributes
from mmqsa.features.grids import grids_of, starts_of

MAX_IMAGES = 2_000_000
MAX_BOXES = 10_000_000  # ten times COCO's
MAX_BYTES = 256_000_000  # of one image's features
MAX_SIDE = 65_535  # px, of a photograph
MAX_ID = 255  # bytes: an id is a file's name
# Array -> dtype (S: bytes of any length), dimensions. Those that are not REQUIRED may be absent.
ARRAYS = {
    "features": ("<f2", 3),
    "image_id": ("S", 1),
    "done": ("|b1", 1),
    "classes": ("|u1", 3),
    "instances": ("|u1", 3),
    "boxes": ("<f4", 2),
    "box_image": ("<i8", 1),
}
# Of photographs at their own size there are no label maps.
NATIVE_ARRAYS = {
    **{name: kind for name, kind in ARRAYS.items() if name not in ("classes", "instances")},
    **{"features": ("<f2", 2), "size": ("<i4", 2)},
}
REQUIRED = ("features", "image_id", "done")
# What h5py raises on a damaged file; MemoryError and OverflowError for sizes that are made up.
DAMAGE = (
    *(OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError),
    *(MemoryError, OverflowError),
)


def open_cache(path: Path) -> tuple[h5py.File, dict[str, Any]]:
    """A finished cache, opened for reading, and its attributes. Raises InputError."""
    check_regular(path)
    if not path.exists():
        raise InputError(f"{path}: no such feature cache; run `mmqsa extract`")
    with closed_if_bad(path) as opened:
        opened.append(file := h5py.File(path, "r", locking=False))
        attributes = check_cache(file, path)
        if not file["done"][:].all():
            raise InputError(f"{path}: extraction has not finished; run `mmqsa extract` again")
    return file, attributes


@contextmanager
def closed_if_bad(path: Path) -> Iterator[list[h5py.File]]:
    """Closes the files that the block puts into the list where it refuses them, or fails on them.

    What h5py raises on a damaged file becomes an InputError that names ``path``.
    """
    opened: list[h5py.File] = []
    try:
        yield opened
    except (InputError, *DAMAGE) as error:
        for file in opened:
            file.close()
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"{path}: not a readable feature cache ({reason}); delete it and run `mmqsa extract` "
            "again"
        ) from None


def check_cache(file: h5py.File, path: Path) -> dict[str, Any]:
    """The attributes of a cache, finished or not, whose arrays are what they must be."""
    attributes = parse_attributes(file.attrs.get("attributes"), path)
    grid, side, native = attributes["grid"], attributes["image_size"], is_native(attributes)
    arrays_of = NATIVE_ARRAYS if native else ARRAYS
    required = (*REQUIRED, "size") if native else REQUIRED
    arrays = {
        name: _array(file, name, *kind)
        for name, kind in arrays_of.items()
        if name in required or name in file
    }
    dim = arrays["features"].shape[-1]
    if native:
        num_images, num_patches = len(arrays["done"]), _check_sizes(arrays, side // grid, path)
    else:
        num_images, num_patches, _ = arrays["features"].shape
    expected = {
        "features": arrays["features"].shape if native else (num_images, grid**2, dim),
        "size": (num_images, 2),
        "classes": (num_images, side, side),
        "instances": (num_images, side, side),
        "image_id": (num_images,),
        "done": (num_images,),
    }
    for name, shape in expected.items():
        if name in arrays and arrays[name].shape != shape:
            _refuse(path, f"{name} is {arrays[name].shape}, not {shape}")
    if not num_images or not dim:
        _refuse(path, f"features is {arrays['features'].shape}: there is nothing in it")
    if num_images > MAX_IMAGES or 2 * num_patches * dim > MAX_BYTES:
        _refuse(path, f"features is {arrays['features'].shape}: more than any stage could read")
    _check_storage(arrays, path)
    _check_ids(arrays["image_id"], path)
    if ("boxes" in arrays) != ("box_image" in arrays):
        _refuse(path, "boxes and box_image go together, and one is missing")
    if "boxes" in arrays:
        _check_boxes(arrays["boxes"], arrays["box_image"], num_images, path)
    elif not arrays["done"][:].all():
        _refuse(path, "it has no boxes")  # which a finished cache may lack
    return attributes


def is_native(attributes: dict[str, Any]) -> bool:
    """Whether a cache is of photographs at their own size."""
    return attributes["geometry"] == "native"


def _check_sizes(arrays: dict[str, h5py.Dataset], patch: int, path: Path) -> int:
    """The most patches that a photograph has: sizes must fit one another and the features."""
    expected = (min(len(arrays["done"]), MAX_IMAGES), 2)
    if arrays["size"].shape != expected:
        _refuse(path, f"size is {arrays['size'].shape}, not {expected}")
    sizes = arrays["size"][:]
    if not sizes.size or not 1 <= sizes.min() <= sizes.max() <= MAX_SIDE:
        _refuse(path, f"size: a photograph has sides of 1 to {MAX_SIDE} px")
    grids = grids_of(sizes, patch)
    total, features = starts_of(grids)[-1], arrays["features"]
    if len(features) != total:
        _refuse(path, f"features is {features.shape}, but its photographs have {total} patches")
    return int(grids.prod(axis=1).max())


def _array(file: h5py.File, name: str, dtype: str, dimensions: int) -> h5py.Dataset:
    """An array of the file itself, of the right kind."""
    path = Path(file.filename)
    link = file.get(name, getlink=True)
    if link is None:
        _refuse(path, f"it has no {name}")
    if not isinstance(link, h5py.HardLink):
        _refuse(path, f"{name} is a link to another place")
    array = file[name]
    if not isinstance(array, h5py.Dataset):
        _refuse(path, f"{name} is no array")
    properties = array.id.get_create_plist()
    if properties.get_external_count() or array.is_virtual:
        _refuse(path, f"the bytes of {name} are in another file")
    kind = "S" if array.dtype.kind == "S" else array.dtype.str
    if (kind, array.ndim) != (dtype, dimensions):
        _refuse(path, f"{name} is {array.ndim}-d {array.dtype}, not {dimensions}-d {dtype}")
    grows = name in ("boxes", "box_image")  # in chunks, some of them half full
    if properties.get_nfilters() or (array.chunks is not None) != grows:
        _refuse(path, f"{name} is compressed or in pieces")
    return array


def _check_storage(arrays: dict[str, h5py.Dataset], path: Path) -> None:
    """Whether the bytes of all arrays are there: HDF5 makes up those that were never written.

    Features are written with the first image that is done, labels with the first that has any.
    """
    missing = {name for name, array in arrays.items() if array.id.get_storage_size() < array.nbytes}
    written = set(arrays) - {"features", "classes", "instances"}
    if "done" not in missing and arrays["done"][:].any():
        written.add("features")
    if "done" not in missing and arrays["done"][:].all():
        written = set(arrays)
    for name in sorted(missing & written):
        _refuse(path, f"bytes of {name} are missing")


def _check_ids(array: h5py.Dataset, path: Path) -> None:
    if array.dtype.itemsize > MAX_ID:
        _refuse(path, f"an image id has {array.dtype.itemsize} bytes")
    ids = [image_id.decode(errors="replace") for image_id in array[:]]
    if len(set(ids)) < len(ids):
        repeated = next(image_id for image_id in ids if ids.count(image_id) > 1)
        _refuse(path, f"the image {repeated!r} is there twice")
    bad = [one for one in ids if not one or not one.isprintable() or "\ufffd" in one or "/" in one]
    if bad:
        _refuse(path, f"{bad[0]!r} is no image id")


def _check_boxes(boxes: h5py.Dataset, image: h5py.Dataset, num_images: int, path: Path) -> None:
    if boxes.shape[1] != 4 or boxes.shape[0] != image.shape[0]:
        _refuse(path, f"boxes is {boxes.shape} and box_image {image.shape}")
    if boxes.shape[0] > MAX_BOXES:
        _refuse(path, f"{boxes.shape[0]:,} boxes for {num_images:,} images")
    if not np.isfinite(boxes[:]).all():
        _refuse(path, "a box is not finite")
    if len(image) and not 0 <= image[:].min() <= image[:].max() < num_images:
        _refuse(path, "a box is of an image that is not there")


def _refuse(path: Path, reason: str) -> NoReturn:
    raise InputError(f"{path}: not a feature cache of this version: {reason}; extract again")

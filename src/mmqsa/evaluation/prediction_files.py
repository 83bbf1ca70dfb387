"""The door of other code's predictions: PNG label maps, HDF5 files, and COCO's json.

Whatever the file, a prediction is a label map whose values are slots, 0 like any other.
docs/score.md describes the formats.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import h5py
import numpy as np
from PIL import Image

from mmqsa.config.files import check_regular, quoted
from mmqsa.data.photograph import check_pixels
from mmqsa.errors import InputError
from mmqsa.evaluation.label_map_file import HEADS
from mmqsa.progress import notice

__all__ = ["Prediction", "Predictions", "open_predictions"]

Size = tuple[int, int]  # width and height, px
Key = TypeVar("Key", bound=int | str)
MAX_SLOTS = 255  # of an image
MODES = ("1", "L", "P", "I;16", "I")  # of a PNG whose values are slots


class Prediction(NamedTuple):
    """What is predicted of one image.

    ``labels`` (h, w) uint8 are its slots 0, 1, … in the order of the file's values. ``boxes``
    (M, 4) are the method's own, the one box first, in px of that map; None: those of the slots.
    ``sized``: the file says the size; otherwise it is taken to be that of the photograph.
    """

    labels: np.ndarray
    boxes: np.ndarray | None = None
    sized: bool = True


class Predictions(Protocol):
    """The predictions of one file or folder, read image by image."""

    path: Path

    def of(self, image_id: str, size: Size | None) -> Prediction:
        """That of an image, whose photograph has ``size`` if it is known. Raises InputError."""


@dataclass(frozen=True)
class OfCoco:
    """How COCO's json is read: whose image ids it has, and which objects count."""

    images: Path | None = None
    """a json whose ``images`` name the photograph of each id; None: the file's own, or the ids"""
    least_score: float | None = None
    """objects of a lower score are left out; None: none is"""


def open_predictions(
    path: Path, ids: Sequence[str], array: str | None = None, of_coco: OfCoco | None = None
) -> Predictions:
    """Open predictions of the images ``ids``: a folder of PNG files, FILE.h5 or FILE.json.

    ``array`` is the one to read of an HDF5 file that holds several. Raises InputError where an
    image has no prediction, and on a file of another kind.
    """
    kind = "folder" if path.is_dir() else path.suffix.lower()
    if array is not None and kind not in (".h5", ".hdf5"):
        raise InputError(f"--array {array}: of an HDF5 file, and {path} is none; leave it out")
    if of_coco and kind != ".json":
        raise InputError(
            f"--images, --least-score: of COCO's json, and {path} is none; leave them out"
        )
    if kind == "folder":
        return _PngFolder(path, ids)
    check_regular(path)
    if not path.exists():
        raise InputError(f"{path}: no such folder or file of predictions")
    if kind in (".h5", ".hdf5"):
        return _ArrayFile(path, ids, array)
    if kind == ".json":
        from mmqsa.evaluation.coco_predictions import CocoPredictions

        return CocoPredictions(path, ids, of_coco or OfCoco())
    raise InputError(
        f"{path}: expected a folder of PNG label maps, FILE.h5 or FILE.json (COCO results)"
    )


def matched(names: Iterable[Key], ids: Sequence[str], path: Path) -> dict[str, Key]:
    """Image id -> the name that stands for it: the same text, or the same number.

    So 139, "139" and "000000000139" are one image. Others are ignored, with one notice. Raises
    InputError where two names stand for one image, and where they only count the images.

    >>> matched([139, 7], ["000000000139", "val_00007"], Path("predictions.json"))
    {'000000000139': 139}
    """
    texts: dict[str | int, str] = {_number(image_id): image_id for image_id in ids}
    texts |= {image_id: image_id for image_id in ids}
    found: dict[str, Key] = {}
    others, names = [], list(names)
    for name in names:
        image_id = texts.get(str(name)) or texts.get(_number(str(name)))
        if image_id is None:
            others.append(str(name))
        elif image_id in found:
            raise InputError(
                f"{path}: {quoted(found[image_id])} and {quoted(name)} are both of {image_id}; "
                "remove one"
            )
        else:
            found[image_id] = name
    numbers = {_number(str(name)) for name in names}
    if others and found and numbers in (set(range(len(names))), set(range(1, len(names) + 1))):
        raise InputError(
            f"{path}: its ids {min(numbers)} to {max(numbers)} seem to count the images; call them "
            "by their names, or give COCO's json of the images as --images"
        )
    if others and found:
        more = f" and {len(others) - 1} more are" if len(others) > 1 else " is"
        notice(f"{path}: {quoted(others[0])}{more} of no image of the split; ignored")
    return found


def _number(text: str) -> str | int:
    """The number that a text is, or the text."""
    return int(text) if text.isdecimal() and len(text) <= 20 else text


def check_complete(found: Iterable[str], ids: Sequence[str], path: Path, example: str) -> None:
    """Raises InputError that names the first image without a prediction, and how many there are.

    ``example`` says what one would be called.
    """
    have = set(found)
    missing = [image_id for image_id in ids if image_id not in have]
    if missing:
        others = f" and of {len(missing) - 1} others" if len(missing) > 1 else ""
        raise InputError(
            f"{path}: has no prediction of {missing[0]}{others}, of {len(ids)} images; expected "
            f"{example}"
        )


def slots_of(labels: np.ndarray, about: str) -> np.ndarray:
    """Whole numbers (h, w) -> slots 0, 1, … in their order, uint8. Raises InputError.

    >>> slots_of(np.array([[7, 7], [0, 300]]), "a map").tolist()
    [[1, 1], [0, 2]]
    """
    values = np.unique(labels)
    if len(values) > MAX_SLOTS:
        raise InputError(
            f"{about}: {len(values)} different values, more than {MAX_SLOTS} slots; is it a soft "
            "mask, or a picture? A label map has one value for each object"
        )
    return np.searchsorted(values, labels).astype(np.uint8)


def check_map(shape: Sequence[int], dtype: np.dtype, about: str) -> None:
    """Raises InputError on an array that is no label map, before it is read."""
    if dtype.kind not in "bui":
        raise InputError(
            f"{about}: {dtype} is no label map (soft masks?); store the number of the winning "
            "slot of each pixel, as whole numbers"
        )
    if len(shape) != 2 or 0 in shape:
        raise InputError(
            f"{about}: an array of shape {tuple(shape)} is no label map, which is (h, w); of masks "
            "(K, h, w) store the winning slot of each pixel"
        )


@contextmanager
def refused_if_damaged(path: Path, kind: str) -> Iterator[None]:
    """What a reader of files raises in the block becomes an InputError that names ``path``."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # decoders raise anything on a damaged file
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: cannot be read as {kind} ({reason}); write it again") from None


class _PngFolder:
    """A folder of IMAGE_ID.png."""

    def __init__(self, path: Path, ids: Sequence[str]):
        self.path = path
        files = {file.stem: file for file in sorted(path.glob("*.png"))}
        names = matched(files, ids, path)
        check_complete(names, ids, path, f"{ids[0]}.png and so on")
        self._files = {image_id: files[name] for image_id, name in names.items()}

    def of(self, image_id: str, size: Size | None) -> Prediction:
        file = self._files[image_id]
        check_regular(file)
        with refused_if_damaged(file, "PNG"), Image.open(file, formats=["PNG"]) as image:
            check_pixels(file, image.size)
            if image.mode not in MODES:
                raise InputError(
                    f"{file}: a label map is a palette or grey PNG, this one is {image.mode}; "
                    "store the number of each pixel's slot, not its colour"
                )
            return Prediction(slots_of(np.array(image), str(file)))


class _ArrayFile:
    """An HDF5 file: (N, h, w) beside ``image_id``, or a data set (h, w) for each image id."""

    def __init__(self, path: Path, ids: Sequence[str], array: str | None):
        self.path = path
        self._maps: dict[str, tuple[h5py.Dataset, Any]]  # of each image: an array, and its row
        with refused_if_damaged(path, "HDF5"):
            file = h5py.File(path, "r", locking=False)
            arrays: dict[str, h5py.Dataset] = {}
            # Links to other files are not followed.
            file.visititems(
                lambda name, item: arrays.update({name: item} if _is_array(item) else {})
            )
            listed = arrays.pop("image_id", None)
            names = [] if listed is None else [_text(name) for name in listed[:]]
        if listed is None:
            prefix = f"{array}/" if array else ""
            own = {
                name.removeprefix(prefix): item
                for name, item in arrays.items()
                if name.startswith(prefix)
            }
            found = matched(own, ids, path)
            check_complete(
                found, ids, path, f"a data set {prefix}{ids[0]} and so on, or image_id beside one"
            )
            self._maps = {image_id: (own[name], ...) for image_id, name in found.items()}
            return
        rows = {name: row for row, name in enumerate(names)}
        if len(rows) < len(names):
            raise InputError(f"{path}: an image_id is there twice; remove one")
        found = matched(rows, ids, path)
        check_complete(found, ids, path, f"{ids[0]} and so on in image_id")
        chosen = _chosen(arrays, len(names), array, path)
        self._maps = {image_id: (chosen, rows[name]) for image_id, name in found.items()}

    def of(self, image_id: str, size: Size | None) -> Prediction:
        (array, row), about = self._maps[image_id], f"{self.path}: {image_id}"
        shape = array.shape if row is ... else array.shape[1:]
        check_map(shape, array.dtype, about)
        check_pixels(self.path, shape[::-1])
        with refused_if_damaged(self.path, "HDF5"):
            return Prediction(slots_of(array[row], about))


def _is_array(item: Any) -> bool:
    """Whether it is an array whose bytes are in the file itself."""
    return isinstance(item, h5py.Dataset) and not (item.external or item.is_virtual)


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _chosen(
    arrays: dict[str, h5py.Dataset], num_images: int, array: str | None, path: Path
) -> h5py.Dataset:
    """The array of predictions that is asked for, or the only one."""
    fitting = {name: one for name, one in arrays.items() if one.shape[:1] == (num_images,)}
    fitting = {name: one for name, one in fitting.items() if one.ndim > 2}
    if array is not None:
        if array not in fitting:
            raise InputError(f"{path}: --array {array}: expected one of {', '.join(fitting)}")
        return fitting[array]
    names = [name for name in fitting if not name.startswith(f"{HEADS}/")]
    if len(names) != 1:
        several = f"several arrays; choose one with --array: {', '.join(names)}"
        raise InputError(
            f"{path}: holds {several if names else 'no array (N, h, w) beside image_id'}"
        )
    return fitting[names[0]]

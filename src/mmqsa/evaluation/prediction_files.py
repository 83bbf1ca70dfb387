"""The door of other code's predictions: PNG label maps, HDF5 files, and COCO's json.

Whatever the file, a prediction is a label map whose values are slots, 0 like any other.
docs/score.md describes the formats.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from mmqsa.config.files import check_regular, quoted
from mmqsa.data.photograph import check_pixels
from mmqsa.errors import InputError
from mmqsa.evaluation.prediction_names import check_complete, matched

__all__ = ["Prediction", "Predictions", "open_predictions"]

Size = tuple[int, int]  # width and height, px
MAX_SLOTS = 255  # of an image
SIGNATURE = b"\x89PNG"  # what each PNG begins with
LEAST_SIDE = 4  # px: the aspect ratio of a smaller map, to a pixel, is that of any photograph
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
        from mmqsa.evaluation.hdf5_predictions import Hdf5Predictions

        return Hdf5Predictions(path, ids, array)
    if kind == ".json":
        from mmqsa.evaluation.coco_predictions import CocoPredictions

        return CocoPredictions(path, ids, of_coco or OfCoco())
    raise InputError(
        f"{path}: expected a folder of PNG label maps, FILE.h5 or FILE.json (COCO results)"
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


def check_size(size: Size, photograph: Size | None, about: Path | str) -> None:
    """Raises InputError on a map of ``size`` that is too large to read, or too small to be one."""
    check_pixels(about, size)
    if min(size) < LEAST_SIDE and (photograph is None or min(size) < min(photograph)):
        of = f" of a photograph of {photograph[0]}x{photograph[1]} px" if photograph else ""
        raise InputError(
            f"{about}: {size[0]}x{size[1]} px are too few for a label map{of}, which has at least "
            f"{LEAST_SIDE} px a side; write it larger"
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
    """A folder of IMAGE_ID.png; files whose name begins with a dot are no predictions."""

    def __init__(self, path: Path, ids: Sequence[str]):
        self.path = path
        inside = [file for file in sorted(path.iterdir()) if not file.name.startswith(".")]
        files: dict[str, Path] = {}
        for file in inside:
            if file.suffix.lower() == ".png":
                if file.stem in files:
                    raise InputError(
                        f"{path}: {files[file.stem].name} and {file.name} are both of "
                        f"{file.stem}; remove one"
                    )
                files[file.stem] = file
        if not files:
            raise InputError(f"{path}: holds no PNG label map; {_instead(inside, ids[0])}")
        names = matched(files, ids, path)
        check_complete(names, ids, path, f"{ids[0]}.png and so on", files)
        self._files = {image_id: files[name] for image_id, name in names.items()}

    def of(self, image_id: str, size: Size | None) -> Prediction:
        file = self._files[image_id]
        check_regular(file)
        _check_signature(file)
        with refused_if_damaged(file, "PNG"), Image.open(file, formats=["PNG"]) as image:
            check_size(image.size, size, file)
            if (frames := getattr(image, "n_frames", 1)) > 1:
                raise InputError(
                    f"{file}: an animated PNG of {frames} frames, and a label map is one image; "
                    "save the frame that is meant alone"
                )
            if image.mode not in MODES:
                raise InputError(
                    f"{file}: a label map is a palette or grey PNG, this one is {image.mode}; "
                    "store the number of each pixel's slot, not its colour"
                )
            return Prediction(slots_of(np.array(image), str(file)))


def _instead(inside: Sequence[Path], image_id: str) -> str:
    """What to do about a folder that holds no PNG, by what else it holds."""
    for folder in inside:
        if folder.is_dir() and any(file.suffix.lower() == ".png" for file in folder.iterdir()):
            return f"{folder} does: name that folder"
    seen = f" (there is {quoted(inside[0].name)})" if inside else ""
    return f"expected {image_id}.png and so on{seen}"


def _check_signature(file: Path) -> None:
    """Raises InputError on another format that is called .png: a JPEG changes labels."""
    with refused_if_damaged(file, "PNG"), file.open("rb") as content:
        begin = content.read(len(SIGNATURE))
    if begin and begin != SIGNATURE[: len(begin)]:
        raise InputError(
            f"{file}: is no PNG, whatever its name says (it begins with {quoted(begin)}); save "
            "label maps as PNG"
        )

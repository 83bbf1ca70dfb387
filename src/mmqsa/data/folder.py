"""A folder of photographs with labels and boxes: the interface of every layout."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from mmqsa.config.files import quoted
from mmqsa.data.photograph import read_photograph, read_upright
from mmqsa.data.photograph_files import advice_on, files_in
from mmqsa.data.upright import Upright
from mmqsa.errors import InputError

MAX_ID = 240  # bytes: a file's name has at most 255, its suffix among them
MAX_COORDINATE = 1e6  # px, of a box; above any photograph's
MAX_ASPECT = 100  # of a photograph: cropping resizes its shorter side to that of the square


@dataclass(frozen=True)
class PhotoFolder(ABC):
    """Photographs in splits, with labels and boxes where they are present.

    Photographs are turned upright as EXIF says, and sizes, labels and boxes are those of the
    upright photograph.
    """

    path: Path
    root: Path | None = field(default=None, compare=False)
    """The data set's root where the folder was found; parts that were fetched for it are there."""
    link: ClassVar[str]
    """The name of a linked folder below a data set's root."""
    num_classes: ClassVar[int]
    """Classes of the label maps: 1..num_classes; 0 is background, 255 void."""

    @property
    @abstractmethod
    def class_names(self) -> list[str]:
        """The name of each class, that of class 1 first."""

    @classmethod
    @abstractmethod
    def find(cls, root: str | Path) -> "PhotoFolder":
        """The folder at or below ``root``. Raises InputError when there is none."""

    @abstractmethod
    def ids(self, split: str) -> list[str]:
        """Image ids of ``split``, in the order of its list. Raises InputError."""

    @abstractmethod
    def photographs(self) -> list[Path]:
        """The files of all photographs."""

    @abstractmethod
    def image_path(self, image_id: str) -> Path:
        """The file of a photograph, or where one would be that is missing."""

    @abstractmethod
    def classes(self, image_id: str, size: tuple[int, int]) -> np.ndarray | None:
        """Class label map (h, w) uint8 of a photograph of ``size`` (w, h); None without labels."""

    @abstractmethod
    def instances(self, image_id: str, size: tuple[int, int]) -> np.ndarray | None:
        """Instance label map (h, w) uint8: 0 background, 1.. objects, 255 void; None without."""

    @abstractmethod
    def boxes(self, image_id: str) -> np.ndarray | None:
        """Boxes (M, 4) of all objects: x0 y0 x1 y1 in px, 0-based, x1 and y1 exclusive."""

    def of_split(self, split: str) -> "PhotoFolder":
        """The folder with the labels of a split, where that has labels of its own."""
        return self

    entry: ClassVar[str] = "its id"
    """What a photograph has in ``listing``."""

    @property
    def listing(self) -> str:
        """What names the photographs of a split, for messages."""
        return "the split list"

    def check(self, ids: list[str]) -> None:
        """Raises InputError when a photograph of ``ids`` is missing."""
        paths = ((image_id, self.image_path(image_id)) for image_id in ids)
        missing = {image_id: path for image_id, path in paths if not path.is_file()}
        if not missing:
            return
        others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        image_id, path = next(iter(missing.items()))
        what_to_do = f"restore the photograph, or take {self.entry} out of there"
        for other in files_in(path.parent):
            if other.stem == image_id and (advice := advice_on(other)):
                what_to_do = f"{other.name} is there: {advice}"
        raise InputError(f"{path}: missing{others}, but {self.listing} names it; {what_to_do}")

    def upright(self, image_id: str) -> Upright:
        """A photograph's size, and how EXIF turns it; its pixels are not decoded."""
        try:
            return read_upright(self.image_path(image_id))
        except InputError as error:
            raise InputError(f"{error}; restore the file") from None

    def size(self, image_id: str) -> tuple[int, int]:
        """Width and height of a photograph, upright."""
        return self.upright(image_id).size

    def told(self, image_id: str, photograph: Upright) -> bool:
        """Whether sizes tell what of its labels is drawn on a photograph's stored pixels."""
        return photograph.told

    def held(self, name: str) -> Path:
        """Where a part of the data set is: in the folder itself, else in its root."""
        own = self.path / name
        return own if own.exists() or self.root is None else self.root / name

    def image(self, image_id: str) -> Image.Image:
        """The photograph, decoded, RGB, upright. Raises InputError on a damaged file."""
        path = self.image_path(image_id)
        try:
            image = read_photograph(path)
        except InputError as error:
            raise InputError(f"{error}; restore the file, or take its id out of the list") from None
        if max(image.size) > MAX_ASPECT * min(image.size):
            raise InputError(
                f"{path}: {image.width}x{image.height} px is no photograph; take its id out of the "
                "list"
            )
        return image


def check_id(image_id: str, origin: Path) -> str:
    """An image id, which is the name of files. Raises InputError that names its ``origin``."""
    if not image_id.isprintable() or "/" in image_id or image_id in ("", ".", ".."):
        raise InputError(
            f"{origin}: {quoted(image_id)} is no image id; correct it: a name without folder and "
            "suffix"
        )
    if len(os.fsencode(image_id)) > MAX_ID:
        raise InputError(
            f"{origin}: {quoted(image_id)} is no image id: more than {MAX_ID} bytes; shorten it"
        )
    return image_id


def check_ids(ids: Iterable[str], origin: Path) -> list[str]:
    """The ids of a split. Raises InputError that names their ``origin``."""
    checked = [check_id(image_id, origin) for image_id in ids]
    if not checked:
        raise InputError(f"{origin}: the split is empty; it has no photograph")
    repeated = len(checked) - len(set(checked))
    if repeated:
        raise InputError(f"{origin}: {repeated} ids are repeated; remove the repeats")
    return checked


def check_boxes(boxes: np.ndarray, origin: str | Path) -> np.ndarray:
    """Boxes (M, 4) as x0 y0 x1 y1. Raises InputError on one that no photograph has."""
    if not (np.abs(boxes) <= MAX_COORDINATE).all() or (boxes[:, 2:] < boxes[:, :2]).any():
        raise InputError(
            f"{origin}: a box is not finite, far outside of the photograph, or ends before it "
            "begins; restore the file"
        )
    return boxes

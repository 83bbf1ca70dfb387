"""Images with labels in one geometry: of a feature cache, or read from a data set's own folder."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mmqsa.config.choices import GeometryName
from mmqsa.config.files import quoted
from mmqsa.config.tables import SPLIT, ImageSet
from mmqsa.data.box_faults import BoxFaults
from mmqsa.data.folder import PhotoFolder
from mmqsa.data.geometry import VOID, Geometry
from mmqsa.data.upright import notice_untold
from mmqsa.errors import InputError

__all__ = ["GeometryName", "LabelledFolder", "LabelledImages"]

Size = tuple[int, int]  # width and height, px
Found = tuple[np.ndarray, bool]  # labels of an image, and whether it has any of their kind


class OfImages(Protocol):
    """One array for each image."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> np.ndarray: ...


class LabelledImages(Protocol):
    """What scores are computed from: a feature cache, or a `LabelledFolder`.

    Label maps are (S, S) uint8, 0 background and 255 void, and boxes (M, 4) x0 y0 x1 y1 in px of
    the same square. In the geometry ``native`` there is no square: a label map has the size of its
    photograph. A kind of labels that no image has is None; an image that lacks what others have is
    all void, or has no box.
    """

    @property
    def path(self) -> Path:
        """Where they are from, for messages."""

    @property
    def name(self) -> str:
        """Of the image set: the stem of its metrics files."""

    @property
    def ids(self) -> list[str]:
        """Of the images, in their order."""

    @property
    def side(self) -> int:
        """S, px."""

    def size(self, index: int, /) -> tuple[int, int]:
        """Width and height of the photograph, px; of a cache of squares, that of the square."""

    @property
    def attributes(self) -> dict[str, Any]:
        """``geometry`` and ``image_size`` (S) among others."""

    @property
    def classes(self) -> OfImages | None:
        """Class label maps."""

    @property
    def instances(self) -> OfImages | None:
        """Instance label maps."""

    @property
    def boxes(self) -> OfImages | None:
        """Annotated boxes."""

    @property
    def box_faults(self) -> BoxFaults:
        """What is wrong with the boxes that were read so far; a cache's were cut when stored."""


class LabelledFolder:
    """The labels of a split in a data set's folder, read image by image when they are asked for.

    They are what a feature cache of the same split and geometry holds, without a backbone.
    """

    def __init__(
        self, folder: PhotoFolder, split: str, dataset: str, geometry: GeometryName, side: int
    ):
        """``dataset`` names the image set. Raises InputError as the folder does."""
        if not re.fullmatch(SPLIT, split):
            raise InputError(
                f"--split {quoted(split)}: expected train, val, trainval, trainaug, all-but-val, "
                "or a detection list such as detection-trainval"
            )
        folder = folder.of_split(split)
        self.path, self.folder, self.side = folder.path, folder, side
        self.ids = folder.ids(split)
        folder.check(self.ids)
        self.uprights = [folder.upright(image_id) for image_id in self.ids]
        self.name = ImageSet(dataset, split, "" if geometry == "crop" else geometry).name
        self.attributes: dict[str, Any] = {"geometry": geometry, "image_size": side}
        self.geometry, self.box_faults = Geometry(geometry, side), BoxFaults()
        self.classes = self._present(lambda index: self._map(folder.classes, index))
        self.instances = self._present(lambda index: self._map(folder.instances, index))
        self.boxes = self._present(self._boxes)
        if any(kind is not None for kind in (self.classes, self.instances, self.boxes)):
            pairs = zip(self.ids, self.uprights, strict=True)
            untold = [image_id for image_id, one in pairs if not folder.told(image_id, one)]
            notice_untold(untold, len(self.ids))

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of a photograph, upright."""
        return self.uprights[index].size

    def _map(self, read: Callable[[str, Size], np.ndarray | None], index: int) -> Found:
        size = self.size(index)
        labels = read(self.ids[index], size)
        if labels is None:
            return self.geometry.labels(np.full(size[::-1], VOID, dtype=np.uint8)), False
        return self.geometry.labels(labels), True

    def _boxes(self, index: int) -> Found:
        boxes = self.folder.boxes(self.ids[index])
        if boxes is None:
            return np.empty((0, 4)), False
        size = self.size(index)
        self.box_faults.look(self.ids[index], boxes, size)
        return self.geometry.boxes(boxes, *size).astype(np.float64), True

    def _present(self, read: Callable[[int], Found]) -> OfImages | None:
        """Labels of one kind, or None where no image has them."""
        has_any = any(read(index)[1] for index in range(len(self.ids)))
        return _Read(read, len(self.ids)) if has_any else None


@dataclass(frozen=True)
class _Read:
    """Labels of one kind, each read when it is asked for."""

    read: Callable[[int], Found]
    num_images: int

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int, /) -> np.ndarray:
        return self.read(index)[0]

"""Predictions in COCO's json: a list of results, or annotations beside images."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mmqsa.config.base import Finite, validated
from mmqsa.config.files import quoted
from mmqsa.data.coco_shapes import mask_of
from mmqsa.data.folder import MAX_COORDINATE
from mmqsa.errors import InputError
from mmqsa.evaluation.coco_listing import (
    Listing,
    images_by_name,
    read_large_json,
    read_listing,
)
from mmqsa.evaluation.prediction_files import OfCoco, Prediction, Size, check_size, slots_of
from mmqsa.progress import notice

__all__ = ["CocoPredictions"]

LOOSE = 0.25  # of an object's longer side: a side of a box that is off by more is of another mask
Coordinate = Annotated[float, Field(ge=-MAX_COORDINATE, le=MAX_COORDINATE)]


class Detection(BaseModel):
    """One object; its category is not used, and other keys are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)

    image_id: int | str
    score: Finite = 1.0
    bbox: Annotated[list[Coordinate], Field(min_length=4, max_length=4)] | None = None
    segmentation: Any = None

    @property
    def shape(self) -> Any:
        """Its segmentation; None where it has a box alone."""
        return self.segmentation or None


class CocoPredictions:
    """The objects of each image; where they overlap, the one of the highest score is on top.

    Slot 0 is what no object covers. Objects are numbered by score, from the highest, equal ones in
    the file's order. Where every object has a ``bbox``, these are the method's own boxes, in that
    order.
    """

    def __init__(self, path: Path, ids: Sequence[str], options: OfCoco):
        """Raises InputError as `open_predictions` does."""
        self.path = path
        found, self._listing = _read(path, ids, options)
        entries = [one.image_id for one in found]
        if self._listing:
            images = self._listing.images_of(entries, ids, path)
        else:
            images = images_by_name(entries, ids, path)
        self._boxes = bool(found) and all(one.bbox is not None for one in found)
        self._objects: dict[str, list[Detection]] = defaultdict(list)
        for one in found:
            enough = options.least_score is None or one.score >= options.least_score
            if one.image_id in images and enough:
                self._objects[images[one.image_id]].append(one)
        self._said: set[str] = set()  # notices
        self._check_objects(ids, found, options)

    def _check_objects(
        self, ids: Sequence[str], found: Sequence[Detection], options: OfCoco
    ) -> None:
        """Raises InputError where no image has an object; says how many have none."""
        if found and not self._objects and options.least_score is not None:
            raise InputError(
                f"{self.path}: no object of the {len(ids)} images has a score >= "
                f"{options.least_score}, the highest is {max(one.score for one in found)}; lower "
                "--least-score"
            )
        if found and not self._objects:
            raise InputError(
                f"{self.path}: no object of any of the {len(ids)} images, such as {ids[0]}: all "
                "are of other images; choose another --split"
            )
        without = [image_id for image_id in ids if image_id not in self._objects]
        if without:
            notice(
                f"{self.path}: no object in {len(without)} of {len(ids)} images: all background; "
                f"the first is {without[0]}"
            )
        lacking = {
            "no bbox, so none is used: boxes are those of the masks": [
                one for one in found if one.bbox is None
            ],
            "no score, and count as 1": [
                one for one in found if "score" not in one.model_fields_set
            ],
        }
        for what, entries in lacking.items():
            if 0 < len(entries) < len(found):
                notice(f"{self.path}: {len(entries)} of {len(found)} entries have {what}")

    def of(self, image_id: str, size: Size | None) -> Prediction:
        """The label map, in px of the masks, or of the photograph where there are boxes alone."""
        objects = sorted(self._objects.get(image_id, []), key=lambda one: -one.score)
        about = f"{self.path}: {image_id}"
        listed = self._listing and self._listing.sizes.get(image_id)
        photographs = [one for one in (listed, size) if one]  # widths and heights that it may have
        px = self._px(objects, photographs, about)
        check_size(px, size, about)
        painted = np.zeros(px[::-1], dtype=np.int32)
        extents = np.full((len(objects), 4), np.nan)  # of masks
        for number, one in reversed([*enumerate(objects, start=1)]):
            inside = _inside(one, px, f"{about}: an object")
            painted[inside] = number
            if self._boxes and one.shape is not None:
                extents[number - 1] = _extent(inside)
        self._check_px(objects, px, about)
        boxes = self._own_boxes(objects, extents, px, photographs, about) if self._boxes else None
        in_rle = any(isinstance(one.shape, dict) for one in objects)
        return Prediction(slots_of(painted, about), boxes, sized=in_rle or listed is not None)

    def _px(self, objects: list[Detection], photographs: list[Size], about: str) -> Size:
        """Width and height of what the objects are in px of: RLE masks, or the photograph."""
        sizes: set[Size] = set()
        for shape in (one.shape for one in objects if isinstance(one.shape, dict)):
            match shape.get("size"):
                case [int(rows), int(columns)] if min(rows, columns) > 0:
                    sizes.add((columns, rows))
                case other:
                    raise InputError(f"{about}: a mask whose size is {quoted(other)}")
        if len(sizes) > 1:
            raise InputError(f"{about}: its masks are of different sizes, {sorted(sizes)}")
        px = next(iter([*sizes, *photographs]), None)
        if px is None:
            raise InputError(f"{about}: of unknown size; give --data in place of --features")
        others = any(not isinstance(one.shape, dict) for one in objects)
        if sizes and others and photographs and px not in photographs:
            raise InputError(
                f"{about}: its RLE masks are {_text(px)} px, its photograph {_text(photographs[0])}"
                ", and other objects are polygons or boxes, of which is not known; write all as RLE"
            )
        return px

    def _own_boxes(
        self,
        objects: list[Detection],
        extents: np.ndarray,
        px: Size,
        photographs: list[Size],
        about: str,
    ) -> np.ndarray:
        """The objects' boxes (M, 4) x0 y0 x1 y1 in px of the masks.

        Masks may be of another resolution than the boxes, which are then in px of the photograph;
        which it is can be told where the boxes fit the masks' extents.
        """
        boxes = _corners(one.bbox or [0.0] * 4 for one in objects)
        if (boxes[:, 2:] < boxes[:, :2]).any():
            raise InputError(f"{about}: a bbox (x, y, width, height) has a negative size")
        scales = [np.array([px[0] / one[0], px[1] / one[1]] * 2) for one in [px, *photographs]]
        misfits = [_misfit(boxes * scale, extents) for scale in scales]
        best = int(np.argmin(misfits))
        if misfits[best] > LOOSE:
            self._say(
                "fit",
                f"{about}: the bboxes do not fit the masks; in COCO's format a bbox is x, y, "
                f"width, height in px of the mask, here {_text(px)}",
            )
            return boxes
        if best:
            self._say(
                "scale",
                f"{about}: masks are {_text(px)} px, and bboxes fit {_text(photographs[best - 1])} "
                "px, the photograph's; bboxes are scaled to the masks",
            )
        return np.asarray(boxes * scales[best])

    def _check_px(self, objects: list[Detection], px: Size, about: str) -> None:
        """A notice, once, on boxes and polygons that look like ones of another convention."""
        alone = [one for one in objects if one.shape is None]
        polygons = [one.shape for one in objects if isinstance(one.shape, list)]
        points = [np.concatenate(one).reshape(-1, 2) for one in polygons]
        kinds = {
            ("bbox", "x, y, width, height"): _corners(one.bbox or [0.0] * 4 for one in alone),
            ("polygon", "x, y, x, y, …"): np.array([[*p.min(0), *p.max(0)] for p in points]),
        }
        for (kind, order), corners in kinds.items():
            if not len(corners):
                continue
            outside = (corners[:, 2:] > np.array(px) + 2).any() or (corners[:, :2] < -2).any()
            if outside or corners.max() <= 1:
                wrong = "reaches out of its photograph" if outside else "has no pixel"
                self._say(kind, f"{about}: a {kind} {wrong}; in COCO's format it is {order} in px")

    def _say(self, kind: str, text: str) -> None:
        """A notice, once of each kind."""
        if kind not in self._said:
            self._said.add(kind)
            notice(text)


def _read(
    path: Path, ids: Sequence[str], options: OfCoco
) -> tuple[list[Detection], Listing | None]:
    """The objects of a json, and its list of images, or the one that is given."""
    entries, images = read_large_json(path), None
    if isinstance(entries, dict):
        images, entries = entries.get("images"), entries.get("annotations")
    if not (isinstance(entries, list) and isinstance(images, list | None)):
        raise InputError(f"{path}: expected a list of results, or annotations and images")
    if options.images and images is not None:
        raise InputError(
            f"{path}: has images of its own, and its ids are those; leave out --images"
        )
    found = [
        validated(Detection, entry, f"{path}: entry {number}")
        for number, entry in enumerate(entries)
    ]
    for number, one in enumerate(found):
        if one.shape is None and one.bbox is None:
            raise InputError(f"{path}: entry {number}: neither segmentation nor bbox")
    if options.images:
        given = read_large_json(options.images)
        images = given.get("images") if isinstance(given, dict) else None
        return found, read_listing(images, options.images, ids, own=False)
    return found, None if images is None else read_listing(images, path, ids, own=True)


def _inside(one: Detection, size: Size, about: str) -> Any:
    """What indexes the pixels of an object: its mask, or the rows and columns of its box."""
    if one.shape is not None:
        return mask_of(one.shape, size, about)
    x, y, width, height = one.bbox or [0, 0, 0, 0]
    x0, y0 = max(round(x), 0), max(round(y), 0)
    return slice(y0, max(round(y + height), 0)), slice(x0, max(round(x + width), 0))


def _corners(bboxes: Iterable[Sequence[float]]) -> np.ndarray:
    """Boxes x, y, width, height -> (M, 4) x0 y0 x1 y1."""
    boxes = np.array(list(bboxes), dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _extent(mask: np.ndarray) -> list[float]:
    """The tight box x0 y0 x1 y1 of a mask (h, w); NaN where it has no pixel."""
    columns, rows = (np.flatnonzero(mask.any(axis=axis)) for axis in (0, 1))
    if not len(rows):
        return [np.nan] * 4
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def _misfit(boxes: np.ndarray, extents: np.ndarray) -> float:
    """How far boxes (M, 4) are off the extents of their masks; 0 where there are none.

    Of each object the side that is farthest off, but for a px, in parts of the object's longer
    side; of the objects the median.
    """
    known = np.isfinite(extents[:, 0])
    if not known.any():
        return 0.0
    off = (np.abs(boxes - extents)[known] - 1).clip(0).max(axis=1)
    sides = (extents[known, 2:] - extents[known, :2]).max(axis=1)
    return float(np.median(off / sides))


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"

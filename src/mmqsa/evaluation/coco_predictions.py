"""Predictions in COCO's json: a list of results, or annotations beside images."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mmqsa.config.base import Finite, validated
from mmqsa.config.files import check_regular, quoted
from mmqsa.data.coco import mask_of
from mmqsa.data.folder import MAX_COORDINATE
from mmqsa.data.photograph import check_pixels
from mmqsa.errors import InputError
from mmqsa.evaluation.prediction_files import (
    OfCoco,
    Prediction,
    Size,
    check_complete,
    matched,
    refused_if_damaged,
    slots_of,
)
from mmqsa.progress import notice

__all__ = ["CocoPredictions"]

MAX_BYTES = 2_000_000_000  # of a json; 100 objects for each of COCO's 5,000 images have 300 MB
Coordinate = Annotated[float, Field(ge=-MAX_COORDINATE, le=MAX_COORDINATE)]
Length = Annotated[float, Field(ge=0, le=MAX_COORDINATE)]
Pixels = Annotated[int, Field(ge=1, le=100_000_000)]


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


class ListedImage(BaseModel):
    """One of ``images``."""

    model_config = ConfigDict(strict=True, frozen=True)

    id: int | str
    file_name: str
    width: Pixels | None = None
    height: Pixels | None = None


class CocoPredictions:
    """The objects of each image; where they overlap, the one of the highest score is on top.

    Slot 0 is what no object covers. Objects are numbered by score, from the highest, equal ones in
    the file's order. Where every object has a ``bbox``, these are the method's own boxes, in that
    order.
    """

    def __init__(self, path: Path, ids: Sequence[str], options: OfCoco):
        """Raises InputError as `open_predictions` does."""
        self.path = path
        data, images = _json(path), None
        entries = data
        if isinstance(data, dict):
            entries, images = data.get("annotations"), data.get("images")
        if not (isinstance(entries, list) and isinstance(images, list | None)):
            raise InputError(f"{path}: expected a list of results, or annotations and images")
        if options.images and images is not None:
            raise InputError(f"{path}: has images of its own, and its ids are those; no --images")
        found = [
            validated(Detection, entry, f"{path}: entry {number}")
            for number, entry in enumerate(entries)
        ]
        self._sizes: dict[int | str, Size] = {}  # of images, by their ids here
        self._keys: dict[str, int | str]  # image id -> its id here
        if options.images:
            self._keys = self._listed(_listing(options.images), ids, options.images)
            check_complete(self._keys, ids, options.images, f"{ids[0]} among its file names")
        elif images is not None:
            self._keys = self._listed(images, ids, path)
        else:
            self._keys = matched(dict.fromkeys(one.image_id for one in found), ids, path)
        self._boxes = bool(found) and all(one.bbox is not None for one in found)
        self._objects: dict[str, list[Detection]] = defaultdict(list)
        names = {key: image_id for image_id, key in self._keys.items()}
        for number, one in enumerate(found):
            if one.shape is None and one.bbox is None:
                raise InputError(f"{path}: entry {number}: neither segmentation nor bbox")
            enough = options.least_score is None or one.score >= options.least_score
            if one.image_id in names and enough:
                self._objects[names[one.image_id]].append(one)
        self._warned = False
        self._check_objects(ids, found, options)

    def _listed(self, images: list[Any], ids: Sequence[str], origin: Path) -> dict[str, int | str]:
        """Image id -> its id in ``images``, by the file's name; their sizes are kept."""
        listed = [
            validated(ListedImage, one, f"{origin}: images: entry {number}")
            for number, one in enumerate(images)
        ]
        by_name = {Path(one.file_name).stem: one for one in listed}
        if len(by_name) < len(listed) or len({one.id for one in listed}) < len(listed):
            raise InputError(f"{origin}: images: two have one file name or id; correct it")
        for one in listed:
            if one.width and one.height:
                self._sizes[one.id] = (one.width, one.height)
        return {
            image_id: by_name[name].id for image_id, name in matched(by_name, ids, origin).items()
        }

    def _check_objects(
        self, ids: Sequence[str], found: Sequence[Detection], options: OfCoco
    ) -> None:
        """Raises InputError where no image has an object; says how many have none."""
        if found and self._keys and not self._objects and options.least_score is not None:
            raise InputError(
                f"{self.path}: no object of the {len(ids)} images has a score >= "
                f"{options.least_score}, the highest is {max(one.score for one in found)}; lower "
                "--least-score"
            )
        if found and not self._objects:
            raise InputError(
                f"{self.path}: no object of any of the {len(ids)} images, such as {ids[0]}; its "
                f"image ids are like {quoted(found[0].image_id)}; name the json that has their "
                "file names with --images"
            )
        if without := len(ids) - len(self._objects):
            notice(f"{self.path}: no object in {without} of {len(ids)} images: all background")

    def of(self, image_id: str, size: Size | None) -> Prediction:
        """The label map, in px of the masks, or of the photograph where there are boxes alone."""
        objects = sorted(self._objects.get(image_id, []), key=lambda one: -one.score)
        about = f"{self.path}: {image_id}"
        width, height = self._size(image_id, objects, size, about)
        check_pixels(self.path, (width, height))
        painted = np.zeros((height, width), dtype=np.int32)
        for number, one in reversed([*enumerate(objects, start=1)]):
            painted[_inside(one, (width, height), f"{about}: an object")] = number
        boxes = None
        if self._boxes:
            boxes = np.array([one.bbox for one in objects], dtype=np.float64).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            if (boxes[:, 2:] < boxes[:, :2]).any():
                raise InputError(f"{about}: a bbox (x, y, width, height) has a negative size")
            self._check_unit(boxes, (width, height), about)
        sized = self._said_size(image_id, objects, about) is not None
        return Prediction(slots_of(painted, about), boxes, sized)

    def _check_unit(self, boxes: np.ndarray, size: Size, about: str) -> None:
        """A notice, once, on boxes that look like ones of another convention."""
        outside = (boxes[:, 2:] > np.array(size) + 2).any()
        if not self._warned and len(boxes) and (outside or boxes.max() <= 1):
            self._warned = True
            wrong = "reaches out of its photograph" if outside else "has no pixel"
            notice(f"{about}: a bbox {wrong}; in COCO's format it is x, y, width, height in px")

    def _size(
        self, image_id: str, objects: list[Detection], size: Size | None, about: str
    ) -> tuple[int, int]:
        """Width and height of what the objects are in px of: as the file says, or ``size``."""
        found = self._said_size(image_id, objects, about) or size
        if found is None:
            raise InputError(f"{about}: of unknown size; give --data in place of --features")
        return found

    def _said_size(self, image_id: str, objects: list[Detection], about: str) -> Size | None:
        """Width and height that masks, or the listed images, say."""
        sizes: set[tuple[int, int]] = set()
        for shape in (one.shape for one in objects if isinstance(one.shape, dict)):
            match shape.get("size"):
                case [int(rows), int(columns)] if min(rows, columns) > 0:
                    sizes.add((columns, rows))
                case other:
                    raise InputError(f"{about}: a mask whose size is {quoted(other)}")
        if len(sizes) > 1:
            raise InputError(f"{about}: its masks are of different sizes, {sorted(sizes)}")
        return next(iter(sizes), self._sizes.get(self._keys.get(image_id, "")))


def _inside(one: Detection, size: Size, about: str) -> Any:
    """What indexes the pixels of an object: its mask, or the rows and columns of its box."""
    if one.shape is not None:
        return mask_of(one.shape, size, about)
    x, y, width, height = one.bbox or [0, 0, 0, 0]
    x0, y0 = max(round(x), 0), max(round(y), 0)
    return slice(y0, max(round(y + height), 0)), slice(x0, max(round(x + width), 0))


def _listing(path: Path) -> list[Any]:
    """The images of a json of annotations."""
    data = _json(path)
    images = data.get("images") if isinstance(data, dict) else None
    if not isinstance(images, list):
        raise InputError(f"{path}: has no list of images")
    return images


def _json(path: Path) -> Any:
    """A json file of any usual size; `config.files.read_json` is for small ones."""
    check_regular(path)
    if path.exists() and path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: more than {MAX_BYTES // 10**9} GB; is it the right file?")
    with refused_if_damaged(path, "JSON"):
        return json.loads(path.read_bytes())

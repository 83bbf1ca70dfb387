"""COCO 2017, or COCO 20k: photographs, and label maps painted from the instances' polygons."""

import contextlib
import io
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pycocotools.coco import COCO
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmqsa.config.files import quoted
from mmqsa.data.coco_shapes import is_absent, mask_of
from mmqsa.data.folder import MAX_COORDINATE, PhotoFolder, check_boxes, check_id, check_ids
from mmqsa.data.geometry import VOID
from mmqsa.data.photograph_files import photographs_by_id
from mmqsa.data.split_list import read_lines
from mmqsa.data.upright import Size, Upright
from mmqsa.errors import InputError
from mmqsa.progress import notice

CHOSEN = "coco_20k_filenames.txt"  # the images of COCO 20k, train2014/NAME.jpg on each line
DAMAGE = (AssertionError, AttributeError, KeyError, IndexError, TypeError, ValueError)


@dataclass(frozen=True)
class CocoFolder(PhotoFolder):
    """The folder that holds annotations/instances_*2017.json, train2017 and val2017.

    Classes are 1..80 in the order of COCO's category ids. Crowds are void. Where instances overlap
    the smaller one is on top, so that a cup on a table stays whole. Of an object with a box alone
    nobody knows which pixels it has, so those of its box are void; where all objects of an image
    have boxes alone, the image has no label maps.
    """

    split: str | None = field(default=None, compare=False)
    """whose photographs and annotations they are; None: each photograph's folder says it"""
    link: ClassVar[str] = "coco"
    entry: ClassVar[str] = "its image and annotations"
    num_classes: ClassVar[int] = 80
    year: ClassVar[str] = "2017"
    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    @property
    def class_names(self) -> list[str]:
        paths = map(self._annotations, self.splits)
        return _index(next(path for path in paths if path.is_file())).names

    @classmethod
    def find(cls, root: str | Path) -> "CocoFolder":
        """The folder at ``root`` or ``root/LINK``. Raises InputError when there is none."""
        for below in ("", cls.link):
            folder = cls(Path(root) / below, Path(root))
            if any(map(Path.is_file, map(folder._annotations, cls.splits))):
                return folder
        files = " and ".join(f"instances_{split}{cls.year}.json" for split in cls.splits)
        raise InputError(
            f"{root}: no COCO {cls.year} folder here (looked for {files} in annotations and "
            f"{cls.link}/annotations)"
        )

    def ids(self, split: str) -> list[str]:
        """Image ids of ``train`` (also called all-but-val) or ``val``: file names, by COCO's id.

        Images without an object are among them.
        """
        split = self._split(split)
        path = self._annotations(split)
        ids = check_ids(sorted(_index(path).by_name), path)
        for other in set(self.splits) - {split}:
            theirs = photographs_by_id(self.path / f"{other}{self.year}")
            twice = theirs.keys() & set(ids)
            if twice:  # a photograph's file says which annotations it has
                name = theirs[min(twice)].name
                raise InputError(f"{self.path}: {name} is in both splits; rename one")
        return ids

    def _split(self, split: str) -> str:
        """The split's name among COCO's. Raises InputError."""
        split = "train" if split == "all-but-val" else split
        if split not in self.splits:
            expected = " or ".join(self.splits)
            raise InputError(f"{self.path}: unknown split {split!r}; expected {expected}")
        return split

    def of_split(self, split: str) -> "CocoFolder":
        return replace(self, split=self._split(split))

    @property
    def listing(self) -> str:
        return f"annotations/{self._annotations(self.split or self.splits[0]).name}"

    def photographs(self) -> list[Path]:
        folders = (self.path / f"{split}{self.year}" for split in self.splits)
        return [path for folder in folders for path in photographs_by_id(folder).values()]

    def image_path(self, image_id: str) -> Path:
        splits = self.splits if self.split is None else [self.split]
        folders = [self.path / f"{split}{self.year}" for split in splits]
        found = (photographs_by_id(folder).get(image_id) for folder in folders)
        return next(filter(None, found), folders[0] / f"{image_id}.jpg")

    def classes(self, image_id: str, size: tuple[int, int]) -> np.ndarray | None:
        index = self._index_of(image_id)
        labels = [index.classes[entry["category_id"]] for entry in index.objects(image_id)]
        return index.painted(image_id, self._read(image_id, size), labels)

    def instances(self, image_id: str, size: tuple[int, int]) -> np.ndarray | None:
        index, counted = self._index_of(image_id), iter(range(1, VOID))
        objects = index.objects(image_id)
        labels = [VOID if index.is_void(entry) else next(counted) for entry in objects]
        return index.painted(image_id, self._read(image_id, size), labels)

    def boxes(self, image_id: str) -> np.ndarray:
        """Boxes (M, 4) of all objects but crowds: x0 y0 x1 y1 in px."""
        index = self._index_of(image_id)
        objects, size = index.objects(image_id), index.size(image_id)
        boxes = [entry["bbox"] for entry in objects if not entry["iscrowd"]]
        corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        check_boxes(corners, f"{self.path}: {image_id}")
        photograph = self.upright(image_id)
        return photograph.boxes(corners, size) if photograph.is_stored(size) else corners

    def told(self, image_id: str, photograph: Upright) -> bool:
        sized = not photograph.quarter or None not in self._index_of(image_id).size(image_id)
        return photograph.told and sized

    def _read(self, image_id: str, size: Size) -> Upright:
        """The photograph of ``size``. Raises InputError."""
        photograph = self.upright(image_id)
        return photograph if photograph.size == size else Upright(size)

    def _index_of(self, image_id: str) -> "_Index":
        split = self.image_path(image_id).parent.name.removesuffix(self.year)
        return _index(self._annotations(split))

    def _annotations(self, split: str) -> Path:
        return self.path / "annotations" / f"instances_{split}{self.year}.json"


class Coco20kFolder(CocoFolder):
    """COCO 20k: the 19,817 images of train2014 that LOST, TokenCut and FOUND score their boxes on.

    The list is that of LOST's repository. Boxes are read as LOST reads them: without crowds, their
    corners rounded to whole pixels.
    """

    link: ClassVar[str] = "coco2014"
    year: ClassVar[str] = "2014"
    splits: ClassVar[tuple[str, ...]] = ("train",)

    def ids(self, split: str) -> list[str]:
        """Image ids of ``train`` (also called all-but-val), in the order of the list."""
        self._split(split)
        path = self.held(CHOSEN)
        if not path.is_file():
            raise InputError(
                f"{path}: missing; it lists the images of COCO 20k: run `mmqsa download --part "
                "coco20k`"
            )
        ids = check_ids((Path(line).stem for line in read_lines(path)), path)
        known = _index(self._annotations("train")).by_name
        for image_id in ids:
            if image_id not in known:
                raise InputError(
                    f"{path}: {quoted(image_id)} is not in {self._annotations('train').name}; "
                    "restore the one that was changed"
                )
        return ids

    def boxes(self, image_id: str) -> np.ndarray:
        return np.rint(super().boxes(image_id))


Coordinate = Annotated[float, Field(ge=-MAX_COORDINATE, le=MAX_COORDINATE)]


class CocoObject(BaseModel):
    """An annotation; its shape is checked against its photograph, when that is read."""

    model_config = ConfigDict(strict=True)

    id: int
    image_id: int
    category_id: int
    bbox: Annotated[list[Coordinate], Field(min_length=4, max_length=4)]
    iscrowd: Annotated[int, Field(ge=0, le=1)] = 0
    area: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    segmentation: Any = None


EXPECTED = {  # of an annotation's keys, for messages
    **dict.fromkeys(("id", "image_id", "category_id"), "a whole number"),
    "bbox": f"[x, y, width, height] in px, each at most {MAX_COORDINATE:,.0f}",
    "iscrowd": "0 or 1",
    "area": "a number from 0 on, in px",
}


class _Index:
    """One instances file, read by pycocotools and checked."""

    def __init__(self, path: Path):
        if not path.is_file():
            raise InputError(f"{path}: missing; restore it")
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints how long it took
                self._coco = COCO(path)
            images, categories = self._coco.imgs, sorted(self._coco.getCatIds())
            names = [(Path(entry["file_name"]).stem, key) for key, entry in images.items()]
            annotations = self._coco.dataset["annotations"]
            listed = len(self._coco.dataset["images"])
        except (*DAMAGE, RecursionError) as error:
            found = f"no {error}" if isinstance(error, KeyError) else error
            reason = " ".join(f"{found}".split())[:160]
            raise InputError(f"{path}: not COCO instances ({reason}); restore the file") from None
        self._path, self.by_name = path, {check_id(name, path): key for name, key in names}
        self.classes = {key: label for label, key in enumerate(categories, start=1)}
        self.names = [str(self._coco.cats[key].get("name", key)) for key in categories]
        if len(self.by_name) < listed:
            raise InputError(f"{path}: two photographs have one name or id; correct it")
        if len(self.classes) < len(categories):
            raise InputError(f"{path}: two categories have one id; correct it")
        if len(categories) > CocoFolder.num_classes:
            raise InputError(
                f"{path}: {len(categories)} categories, more than {CocoFolder.num_classes}"
            )
        for entry in annotations:
            self._check(entry)
        if len(self._coco.anns) < len(annotations):
            raise InputError(f"{path}: two annotations have one id; correct it")
        self._box_alone = {entry["id"] for entry in annotations if is_absent(entry["segmentation"])}
        self._nothing = {
            key for key in self._box_alone if not all(side > 0 for side in self._sides(key))
        }
        self._box_alone -= self._nothing
        self.has_shapes = len(self._box_alone) + len(self._nothing) < len(annotations)
        self._say_what_lacks(len(annotations))
        objects = Counter(entry["image_id"] for entry in annotations if not self.is_void(entry))
        for key, number in objects.most_common(1):
            if number >= VOID:
                raise InputError(
                    f"{path}: image {key} has {number} objects, more than the {VOID - 1} that a "
                    "label map holds; take some out"
                )

    def _check(self, entry: dict[str, Any]) -> None:
        about = f"{self._path}: annotation {quoted(entry.get('id'))}"
        entry.setdefault("iscrowd", 0)
        entry.setdefault("segmentation", None)
        try:
            CocoObject.model_validate(entry)
        except ValidationError as error:
            key = str(error.errors()[0]["loc"][0])
            what = f"has no {key}, which is"
            if key in entry:
                what = f"{key} is {quoted(entry[key])}, not"
            raise InputError(
                f"{about}: {what} {EXPECTED[key]}; correct it, or take the annotation out"
            ) from None
        for key, known in (("image_id", self._coco.imgs), ("category_id", self.classes)):
            if entry[key] not in known:
                raise InputError(f"{about}: unknown {key} {entry[key]}; correct it")

    def _sides(self, key: int) -> list[float]:
        """Width and height of an annotation's box, px."""
        return self._coco.anns[key]["bbox"][2:]

    def _say_what_lacks(self, number: int) -> None:
        """Notices that count the objects without a shape."""
        if self._nothing:
            notice(
                f"{self._path}: {len(self._nothing)} of {number} annotations have neither a shape "
                f"nor a box, such as annotation {min(self._nothing)}: left out"
            )
        if self._box_alone:
            what = "there are no label maps"
            if self.has_shapes:
                what = (
                    "in label maps their boxes are void, and an image of such objects alone has no "
                    "label map"
                )
            notice(
                f"{self._path}: {len(self._box_alone)} of {number} annotations have a box but no "
                f"shape of a pixel or more, such as annotation {min(self._box_alone)}: {what}"
            )

    def is_void(self, entry: dict[str, Any]) -> bool:
        """Whether an annotation's pixels are void in label maps: a crowd, or a box alone."""
        key = entry["id"]
        return bool(entry["iscrowd"]) or key in self._box_alone or key in self._nothing

    def objects(self, image_id: str) -> list[dict]:
        """The annotations of a photograph, in the order of their ids."""
        keys = self._coco.getAnnIds(imgIds=[self.by_name[image_id]])
        return self._coco.loadAnns(sorted(set(keys) - self._nothing))

    def size(self, image_id: str) -> tuple[Any, Any]:
        """Width and height that it says of a photograph; None where it does not."""
        listed = self._coco.imgs[self.by_name[image_id]]
        return listed.get("width"), listed.get("height")

    def painted(self, image_id: str, photograph: Upright, labels: list[int]) -> np.ndarray | None:
        """The label map (h, w) of a photograph, upright: a label for each object.

        None where its objects, or all those of the file, have boxes alone.
        """
        objects = self.objects(image_id)
        unknown = objects and all(entry["id"] in self._box_alone for entry in objects)
        if unknown or (self._box_alone and not self.has_shapes):
            return None
        width, height = photograph.size
        painted = np.zeros((height, width), dtype=np.uint8)
        # One mask at a time: those of a large photograph would not fit into memory together.
        areas = [
            entry.get("area") or self._mask(entry, image_id, photograph).sum() for entry in objects
        ]
        order = sorted(
            range(len(objects)),  # crowds last: no metric counts what lies in one
            key=lambda i: (objects[i]["iscrowd"], -areas[i]),
        )
        for index in order:
            mask = self._mask(objects[index], image_id, photograph)
            painted[mask] = VOID if self.is_void(objects[index]) else labels[index]
        return painted

    def _mask(self, entry: dict[str, Any], image_id: str, photograph: Upright) -> np.ndarray:
        """The mask (h, w) of an annotation; pycocotools crashes on shapes that are not checked."""
        (width, height), shape = photograph.size, entry["segmentation"]
        about, of = f"{self._path}: {image_id}: annotation {entry['id']}", self.size(image_id)
        if isinstance(shape, dict) and isinstance(shape.get("size"), list):
            of = tuple(shape["size"][::-1])
        if None in of:  # the json does not say
            of = photograph.size
        if photograph.is_stored(of):
            return photograph.labels(self._pixels(entry, photograph.stored, about))
        if of != photograph.size:
            raise InputError(
                f"{about} is for {'x'.join(map(quoted, of))} px, but the photograph is "
                f"{width}x{height}; restore the one that was changed"
            )
        return self._pixels(entry, photograph.size, about)

    def _pixels(self, entry: dict[str, Any], size: tuple[int, int], about: str) -> np.ndarray:
        """The pixels (h, w) bool of an annotation: of its box, where it has no shape."""
        if entry["id"] in self._box_alone:
            return _inside(entry["bbox"], size)
        return mask_of(entry["segmentation"], size, about)


def _inside(bbox: list[float], size: tuple[int, int]) -> np.ndarray:
    """The pixels (h, w) bool that a box touches."""
    mask, (x, y, width, height) = np.zeros(size[::-1], dtype=bool), bbox
    low, high = np.floor([x, y]).clip(0), np.ceil([x + width, y + height]).clip(0)
    (x0, y0), (x1, y1) = low.astype(int), high.astype(int)
    mask[y0:y1, x0:x1] = True
    return mask


_index = cache(_Index)

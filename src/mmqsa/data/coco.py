"""COCO 2017: photographs, and label maps painted from the polygons of the instances."""

import contextlib
import io
import json
from functools import cache
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO

from mmqsa.data.folder import PhotoFolder
from mmqsa.data.geometry import VOID
from mmqsa.errors import InputError

SPLITS = ("train", "val")


class CocoFolder(PhotoFolder):
    """The folder that holds annotations/instances_*2017.json, train2017 and val2017.

    Classes are 1..80 in the order of COCO's category ids. Crowds are void. Where instances overlap
    the smaller one is on top, so that a cup on a table stays whole.
    """

    link = "coco"
    num_classes = 80

    @classmethod
    def find(cls, root: str | Path) -> "CocoFolder":
        """The folder at ``root`` or ``root/coco``. Raises InputError when there is none."""
        for below in ("", cls.link):
            path = Path(root) / below
            if any(_annotations(path, split).is_file() for split in SPLITS):
                return cls(path)
        raise InputError(
            f"{root}: no COCO folder here (looked for annotations/instances_val2017.json and "
            "instances_train2017.json); run `mmqsa download`, or name the folder that has it"
        )

    def ids(self, split: str) -> list[str]:
        """Image ids of ``train`` (also called all-but-val) or ``val``: file names, by COCO's id.

        Images without an object are among them.
        """
        split = "train" if split == "all-but-val" else split
        if split not in SPLITS:
            raise InputError(f"{self.path}: unknown split {split!r}; expected train or val")
        return sorted(_index(_annotations(self.path, split)).by_name)

    def photographs(self) -> int:
        folders = (self.path / f"{split}2017" for split in SPLITS)
        return sum(1 for folder in folders for _ in folder.glob("*.jpg"))

    def image_path(self, image_id: str) -> Path:
        paths = [self.path / f"{split}2017" / f"{image_id}.jpg" for split in SPLITS]
        return next((path for path in paths if path.is_file()), paths[0])

    def classes(self, image_id: str, size: tuple[int, int]) -> np.ndarray:
        index = self._index_of(image_id)
        labels = [index.classes[entry["category_id"]] for entry in index.objects(image_id)]
        return index.painted(image_id, size, labels)

    def instances(self, image_id: str, size: tuple[int, int]) -> np.ndarray:
        index, counted = self._index_of(image_id), iter(range(1, VOID))
        objects = index.objects(image_id)
        labels = [VOID if entry["iscrowd"] else next(counted) for entry in objects]
        return index.painted(image_id, size, labels)

    def boxes(self, image_id: str) -> np.ndarray:
        """Boxes (M, 4) of all objects but crowds: x0 y0 x1 y1 in px."""
        objects = self._index_of(image_id).objects(image_id)
        boxes = [entry["bbox"] for entry in objects if not entry["iscrowd"]]
        corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        return corners

    def _index_of(self, image_id: str) -> "_Index":
        split = self.image_path(image_id).parent.name.removesuffix("2017")
        return _index(_annotations(self.path, split))


class _Index:
    """One instances file, read by pycocotools."""

    def __init__(self, path: Path):
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints how long it took
                self._coco = COCO(path)
            images, categories = self._coco.imgs, sorted(self._coco.getCatIds())
            self.by_name = {Path(entry["file_name"]).stem: key for key, entry in images.items()}
            self.classes = {key: label for label, key in enumerate(categories, start=1)}
        except FileNotFoundError:
            raise InputError(f"{path}: missing; restore it") from None
        except (json.JSONDecodeError, AssertionError, KeyError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not COCO instances ({error}); restore the file") from None

    def objects(self, image_id: str) -> list[dict]:
        """The annotations of a photograph, in the order of their ids."""
        return self._coco.loadAnns(sorted(self._coco.getAnnIds(imgIds=[self.by_name[image_id]])))

    def painted(self, image_id: str, size: tuple[int, int], labels: list[int]) -> np.ndarray:
        """The label map (h, w) of a photograph of ``size`` (w, h): a label for each object."""
        width, height = size
        painted = np.zeros((height, width), dtype=np.uint8)
        pairs = zip(self.objects(image_id), labels, strict=True)
        # Crowds last: no metric counts what lies in one.
        for entry, label in sorted(pairs, key=lambda pair: (pair[0]["iscrowd"], -pair[0]["area"])):
            about = f"{image_id}: annotation {entry.get('id')}"
            try:
                mask = self._coco.annToMask(entry).astype(bool)
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(f"{about} has no readable shape ({error})") from None
            if mask.shape != (height, width):
                raise InputError(
                    f"{about} is for {mask.shape[1]}x{mask.shape[0]} px, but the photograph is "
                    f"{width}x{height}; restore the one that was changed"
                )
            painted[mask] = VOID if entry["iscrowd"] else label
        return painted


_index = cache(_Index)


def _annotations(folder: Path, split: str) -> Path:
    return folder / "annotations" / f"instances_{split}2017.json"

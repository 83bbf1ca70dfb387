"""A folder in PASCAL VOC layout: split lists, photographs, label maps and boxes."""

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from mmqsa.config.files import read_text
from mmqsa.data.folder import PhotoFolder, check_boxes, check_ids
from mmqsa.data.geometry import VOID
from mmqsa.data.photograph import image_formats
from mmqsa.errors import InputError

# Class c of a label map is CLASSES[c - 1]; 0 is background.
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
AUGMENTED = "SegmentationClassAug"  # SBD's masks
TRAINAUG = "ImageSets/Segmentation/trainaug.txt"


@dataclass(frozen=True)
class VocFolder(PhotoFolder):
    """The folder that holds JPEGImages; labels are used where they are present.

    >>> voc = VocFolder.find("scenes")
    >>> voc.ids("val")[:2], voc.num_classes, voc.class_names[0]
    (['val_00000', 'val_00001'], 20, 'aeroplane')
    >>> photograph = voc.image("val_00000")
    >>> labels = voc.classes("val_00000", photograph.size)
    >>> labels.shape == (photograph.height, photograph.width)
    True
    """

    labels: tuple[Path, ...] = field(default=(), compare=False)
    """Folders of class label maps besides those of ``path``."""
    link: ClassVar[str] = "VOC2012"
    num_classes: ClassVar[int] = len(CLASSES)

    @property
    def class_names(self) -> list[str]:
        return list(CLASSES)

    @classmethod
    def find(cls, root: str | Path) -> "VocFolder":
        """The VOC folder at or below ``root`` (VOC2012 itself, VOCdevkit, or its parent).

        Raises InputError when there is none.
        """
        places = ("", cls.link, f"VOCdevkit/{cls.link}")
        for below in places:
            path = Path(root) / below
            if (path / "JPEGImages").is_dir():
                return cls(path, Path(root))
        raise InputError(
            f"{root}: no {cls.link} folder here (looked for "
            f"{', '.join(str(Path(below, 'JPEGImages')) for below in places)})"
        )

    def ids(self, split: str) -> list[str]:
        """Image ids of ``split`` in the order of its list.

        ``all-but-val`` is every photograph that is not in Segmentation/val, as the released code
        trains; ``trainaug`` asks for the list and the SBD masks (SegmentationClassAug), which may
        be in the root instead; ``detection-trainval`` (-train, -val) are the detection challenge's
        lists, in Main.
        """
        if split == "all-but-val":
            held_out = set(self.ids("val"))
            photographs = {photograph.stem for photograph in self.photographs()}
            return check_ids(sorted(photographs - held_out), self.path / "JPEGImages")
        folder = "Main" if split.startswith("detection-") else "Segmentation"
        path = self.path / "ImageSets" / folder / f"{split.removeprefix('detection-')}.txt"
        if split == "trainaug":
            path = self.held(TRAINAUG)
            for needed in (self.augmented(), path):
                if not needed.exists():
                    raise InputError(
                        f"{needed}: missing; split trainaug needs the SBD masks and its list: run "
                        "`mmqsa download --part trainaug`, or set dataset.train_split to train or "
                        "all-but-val"
                    )
        if not path.is_file():
            lists = ", ".join(sorted(other.stem for other in path.parent.glob("*.txt"))) or "none"
            raise InputError(f"{path}: split list missing; expected one of {lists}")
        return check_ids(read_text(path).split(), path)

    def of_split(self, split: str) -> "VocFolder":
        """For trainaug with SBD's masks: those that were fetched are no labels of other splits."""
        return replace(self, labels=(self.augmented(),)) if split == "trainaug" else self

    def augmented(self) -> Path:
        """Where SBD's masks are."""
        return self.held(AUGMENTED)

    def image_path(self, image_id: str) -> Path:
        return self.path / "JPEGImages" / f"{image_id}.jpg"

    def photographs(self) -> list[Path]:
        return list((self.path / "JPEGImages").glob("*.jpg"))

    def classes(self, image_id: str, size: tuple[int, int]) -> np.ndarray | None:
        own = (self.path / name for name in ("SegmentationClass", AUGMENTED))
        for folder in (*own, *self.labels):
            path = folder / f"{image_id}.png"
            if path.is_file():
                labels = _label_map(path, size)
                unknown = np.setdiff1d(labels, [*range(len(CLASSES) + 1), VOID])
                if unknown.size:
                    raise InputError(
                        f"{path}: label {unknown[0]} is no VOC class (0..20, or 255 for void); "
                        "number classes from 1 to 20"
                    )
                return labels
        return None

    def instances(self, image_id: str, size: tuple[int, int]) -> np.ndarray | None:
        path = self.path / "SegmentationObject" / f"{image_id}.png"
        return _label_map(path, size) if path.is_file() else None

    def boxes(self, image_id: str) -> np.ndarray | None:
        path = self.path / "Annotations" / f"{image_id}.xml"
        if not path.is_file():
            return None
        try:
            corners = [
                [float(box.findtext(tag, "")) for tag in ("xmin", "ymin", "xmax", "ymax")]
                for box in ElementTree.fromstring(read_text(path)).iterfind("object/bndbox")
            ]
        except (ElementTree.ParseError, TypeError, ValueError) as error:
            raise InputError(f"{path}: not a VOC annotation ({error})") from None
        boxes = check_boxes(np.array(corners, dtype=np.float64).reshape(-1, 4), path)
        return boxes - [1, 1, 0, 0]  # VOC counts pixels from 1; its boxes include both corners


class Voc2007Folder(VocFolder):
    """The same of VOC 2007, whose trainval has 5,011 photographs."""

    link = "VOC2007"


def _label_map(path: Path, size: tuple[int, int]) -> np.ndarray:
    """A palette or grey PNG as (h, w) uint8. Raises InputError when it does not fit ``size``."""
    try:
        with Image.open(path, formats=image_formats()) as image:
            if image.mode not in ("P", "L"):
                raise InputError(
                    f"{path}: a label map is a palette or grey PNG, this one is {image.mode}"
                )
            if image.size != size:  # before it is decoded: it may be of any size
                raise InputError(
                    f"{path}: {image.width}x{image.height} px, but its photograph is "
                    f"{size[0]}x{size[1]}; restore the one that was changed"
                )
            return np.array(image, dtype=np.uint8)
    except InputError:
        raise
    except Exception as error:  # a decoder raises anything on a damaged file
        raise InputError(f"{path}: cannot be decoded ({error}); restore the file") from None

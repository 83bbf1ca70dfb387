"""A folder in PASCAL VOC layout: split lists, photographs, label maps and boxes."""

import re
import xml.etree.ElementTree as ElementTree
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from mmqsa.config.files import quoted, read_bytes
from mmqsa.data.folder import PhotoFolder, check_boxes, check_ids
from mmqsa.data.geometry import VOID
from mmqsa.data.photograph_files import image_formats, photographs_by_id, photographs_of
from mmqsa.data.split_list import listed_ids
from mmqsa.data.upright import Size, Upright
from mmqsa.errors import InputError
from mmqsa.progress import notice

# Class c of a label map is CLASSES[c - 1]; 0 is background.
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
AUGMENTED = "SegmentationClassAug"  # SBD's masks
# How UTF-16 begins.
WIDE = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"<\0": "utf-16-le", b"\0<": "utf-16-be"}
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
            held_out, folder = set(self.ids("val")), self.path / "JPEGImages"
            photographs_of(folder)  # its notices account for every file
            known = photographs_by_id(folder).keys()
            if absent := sorted(held_out - known):
                notice(
                    f"{folder}: all-but-val leaves out the photographs of val, but has none of "
                    f"{len(absent)} of them, such as {absent[0]}; are they here by other names?"
                )
            return check_ids(sorted(known - held_out), folder)
        challenge = "Main" if split.startswith("detection-") else "Segmentation"
        path = self.path / "ImageSets" / challenge / f"{split.removeprefix('detection-')}.txt"
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
        known = photographs_by_id(self.path / "JPEGImages").keys()
        return check_ids(listed_ids(path, known), path)

    def of_split(self, split: str) -> "VocFolder":
        """For trainaug with SBD's masks: those that were fetched are no labels of other splits."""
        return replace(self, labels=(self.augmented(),)) if split == "trainaug" else self

    def augmented(self) -> Path:
        """Where SBD's masks are."""
        return self.held(AUGMENTED)

    def image_path(self, image_id: str) -> Path:
        folder = self.path / "JPEGImages"
        return photographs_by_id(folder).get(image_id, folder / f"{image_id}.jpg")

    def photographs(self) -> list[Path]:
        return list(photographs_by_id(self.path / "JPEGImages").values())

    def classes(self, image_id: str, size: tuple[int, int]) -> np.ndarray | None:
        own = (self.path / name for name in ("SegmentationClass", AUGMENTED))
        for folder in (*own, *self.labels):
            path = _in_any_case(folder / f"{image_id}.png")
            if path.is_file():
                labels = self._label_map(path, image_id, size)
                unknown = np.setdiff1d(labels, [*range(len(CLASSES) + 1), VOID])
                if unknown.size:
                    raise InputError(
                        f"{path}: label {unknown[0]} is no VOC class (0..20, or 255 for void); "
                        "number classes from 1 to 20"
                    )
                return labels
        return None

    def instances(self, image_id: str, size: tuple[int, int]) -> np.ndarray | None:
        path = _in_any_case(self.path / "SegmentationObject" / f"{image_id}.png")
        return self._label_map(path, image_id, size) if path.is_file() else None

    def boxes(self, image_id: str) -> np.ndarray | None:
        path = _in_any_case(self.path / "Annotations" / f"{image_id}.xml")
        if not path.is_file():
            return None
        corners, size = _annotated(path)
        boxes = check_boxes(corners, path)
        boxes = boxes - [1, 1, 0, 0]  # VOC counts pixels from 1; its boxes include both corners
        if size is None:
            return boxes
        photograph = self.upright(image_id)
        return photograph.boxes(boxes, size) if photograph.is_stored(size) else boxes

    def told(self, image_id: str, photograph: Upright) -> bool:
        path = _in_any_case(self.path / "Annotations" / f"{image_id}.xml")
        sized = not (photograph.quarter and path.is_file()) or _annotated(path)[1] is not None
        return photograph.told and sized

    def _label_map(self, path: Path, image_id: str, size: Size) -> np.ndarray:
        """A palette or grey PNG as (h, w) uint8, upright as its photograph.

        Raises InputError when it fits neither ``size`` nor the photograph's stored pixels.
        """
        try:
            with Image.open(path, formats=image_formats()) as image:
                if image.mode not in ("P", "L"):
                    raise InputError(
                        f"{path}: a label map is a palette or grey PNG, this one is {image.mode}"
                    )
                if image.size == size:
                    return np.array(image, dtype=np.uint8)
                # Before it is decoded: it may be of any size.
                photograph = self.upright(image_id)
                if photograph.size == size and photograph.is_stored(image.size):
                    return photograph.labels(np.array(image, dtype=np.uint8))
                raise InputError(
                    f"{path}: {image.width}x{image.height} px, but its photograph is "
                    f"{size[0]}x{size[1]}; restore the one that was changed"
                )
        except InputError:
            raise
        except Exception as error:  # a decoder raises anything on a damaged file
            raise InputError(f"{path}: cannot be decoded ({error}); restore the file") from None


class Voc2007Folder(VocFolder):
    """The same of VOC 2007, whose trainval has 5,011 photographs."""

    link = "VOC2007"


def _annotated(path: Path) -> tuple[np.ndarray, Size | None]:
    """Boxes (M, 4) as VOC's XML has them, and the size of what they are drawn on, if it says so."""
    try:
        root = _xml(read_bytes(path))
        corners = [
            [_corner(box, tag) for tag in ("xmin", "ymin", "xmax", "ymax")]
            for box in root.iterfind("object/bndbox")
        ]
        if corners and (without := len(root.findall("object")) - len(corners)) > 0:
            raise ValueError(f"{without} objects have no bndbox; a rotated box (robndbox) is none")
    except (ElementTree.ParseError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a VOC annotation ({error}); restore it, correct it, or save it as UTF-8"
        ) from None
    width, height = (_side(root.findtext(f"size/{name}", "")) for name in ("width", "height"))
    boxes = np.array(corners, dtype=np.float64).reshape(-1, 4)
    return boxes, (width, height) if width and height else None


def _in_any_case(path: Path) -> Path:
    """A file, also where its suffix is in capitals."""
    other = path.with_suffix(path.suffix.upper())
    return other if other.is_file() and not path.is_file() else path


def _corner(box: ElementTree.Element, tag: str) -> float:
    """A coordinate of a box. Raises ValueError that names it."""
    text = box.findtext(tag, "")
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"bndbox: {tag} is {quoted(text)}, which is no number") from None


def _side(text: str) -> int:
    """A width or height, px; 0 where it is none."""
    with suppress(ValueError, OverflowError):
        return int(float(text))
    return 0


def _xml(content: bytes) -> ElementTree.Element:
    """The root of an XML file in the encoding that it declares, or has all the same.

    The parser lacks encodings of several bytes, such as GBK, and some tools declare UTF-16 and
    write UTF-8.
    """
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, LookupError, ValueError):
        declared = re.search(rb"""<\?xml[^>]*encoding\s*=\s*["']([\w.:-]+)["']""", content[:200])
        names = [declared[1].decode()] if declared else []
        names += [name for head, name in WIDE.items() if content.startswith(head)] or ["utf-8-sig"]
        for name in names:
            with suppress(ElementTree.ParseError, LookupError, ValueError):
                return ElementTree.fromstring(content.decode(name))
        raise

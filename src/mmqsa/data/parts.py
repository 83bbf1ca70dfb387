"""What some splits need besides a data set's archives: SBD's masks, and the list of COCO 20k.

A part is fetched once, into the root of its data set, and has a receipt of its own: the archives
are not fetched again for it.
"""

import io
import json
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from PIL import Image
from scipy.io import loadmat

from mmqsa.atomic import claimed, write_new, write_text
from mmqsa.config.choices import PartName
from mmqsa.config.data import DatasetConfig, PartConfig
from mmqsa.data.archives import look_through
from mmqsa.data.coco import CHOSEN
from mmqsa.data.download import NoSource, fetch_elsewhere, first_that_works
from mmqsa.data.fetch import fetch
from mmqsa.data.folder import check_id
from mmqsa.data.layouts import LAYOUTS
from mmqsa.data.voc import AUGMENTED, CLASSES, TRAINAUG, VocFolder
from mmqsa.errors import InputError

MAX_MAT = 50_000_000  # bytes, of one image's annotations; SBD's have some thousands
SPLITS = {"trainaug": "trainaug", "coco20k": "train"}  # of which a part says the images
HELD = {"trainaug": AUGMENTED, "coco20k": CHOSEN}  # where a linked folder may have a part


def fetch_part(dataset: DatasetConfig, part: PartName, root: Path) -> str:
    """Fetch a part into ``root``, which holds the data set, from the first source that works.

    ``trainaug``: SBD's masks as PNG in SegmentationClassAug, and the split's list, made of them and
    of VOC's lists. ``coco20k``: the list of images. What a linked folder has is used as it is.
    Returns the source that was used. Raises InputError that says why each source failed.
    """
    if part not in dataset.parts_of(SPLITS[part]):
        raise InputError(f"--part {part}: a data set of kind {dataset.kind} has no such part")
    with claimed(root):
        return _fetch_part(dataset, part, root)


def _fetch_part(dataset: DatasetConfig, part: PartName, root: Path) -> str:
    """Fetch a part into a root that no other process writes to; returns the source."""
    folder = LAYOUTS[dataset.kind].find(root)
    held, md5 = folder.path / HELD[part], None
    source = str(held)
    if not held.exists() or folder.path.samefile(root):
        config: PartConfig = getattr(dataset.parts, part)
        source, md5 = _fetch(config, part, root), config.md5
    if isinstance(folder, VocFolder):
        _write_list(folder, root)
    images = len(LAYOUTS[dataset.kind].find(root).ids(SPLITS[part]))
    receipt = {"source": source, "md5": md5, "images": images}
    write_text(root / f"receipt-{part}.json", json.dumps(receipt, indent=2) + "\n")
    return source


def _fetch(config: PartConfig, part: PartName, root: Path) -> str:
    """Fetch a part and put it in its place; returns the source."""
    key = f"dataset.parts.{part}.sources"

    def use(source: str) -> None:
        file = fetch(source, root, config.md5)
        if part == "trainaug":
            write_masks(file, root / AUGMENTED)
        elif file.name != CHOSEN:
            write_new(root / CHOSEN, file.read_bytes())

    try:
        return first_that_works(config.sources, key, use)
    except NoSource as error:
        raise InputError(
            f"no source has {part}: {error}. {fetch_elsewhere(config.sources, key)} (partial "
            f"downloads stay in {root})"
        ) from None


def write_masks(archive: Path, folder: Path) -> None:
    """Write the class masks of SBD's archive, cls/NAME.mat, as NAME.png; the rest is passed by."""
    written = 0

    def take(name: str, size: int, source: IO[bytes] | None) -> None:
        nonlocal written
        path = PurePosixPath(name)
        if source is None or (path.parent.name, path.suffix) != ("cls", ".mat"):
            return
        about = f"{archive}: {name}"
        if size > MAX_MAT:
            raise ValueError(f"{name} has {size} bytes")
        image_id = check_id(path.stem, Path(about))
        png = io.BytesIO()
        Image.fromarray(_mask(source.read(), about)).save(png, "PNG")
        write_new(folder / f"{image_id}.png", png.getvalue())
        written += 1

    look_through(archive, take, "masks")
    if not written:
        raise InputError(f"{archive}: has no masks of SBD (cls/NAME.mat)")


def _mask(content: bytes, about: str) -> np.ndarray:
    """The class label map (h, w) uint8 in a .mat of SBD: 0 background, 1..20; it has no void."""
    try:
        labels = loadmat(io.BytesIO(content), variable_names=["GTcls"])["GTcls"]["Segmentation"]
        labels = np.asarray(labels[0, 0])
        if labels.ndim != 2 or not np.isin(np.unique(labels), range(len(CLASSES) + 1)).all():
            raise ValueError("not a map of classes 0..20")
        return labels.astype(np.uint8)
    except Exception as error:  # the reader raises anything on a damaged file
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{about}: no masks of SBD ({reason}); restore the file") from None


def _write_list(folder: VocFolder, root: Path) -> None:
    """The split trainaug: all masks of SBD and VOC's train, without VOC's val."""
    if (folder.path / TRAINAUG).is_file():
        return
    masks = {path.stem for path in folder.augmented().glob("*.png")}
    ids = (masks | set(folder.ids("train"))) - set(folder.ids("val"))
    write_new(root / TRAINAUG, ("\n".join(sorted(ids)) + "\n").encode())

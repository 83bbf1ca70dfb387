"""A made PASCAL VOC 2012: its folders, lists and sizes, and photographs that look like nothing.

Every photograph is a crop of one of a few synthetic scenes (mmqsa.data.scenes) with noise of its
own, so that 17,125 of them take minutes. Labels and boxes are those of the crop.
"""

import io
import os
import tarfile
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import find_objects, morphological_gradient

from mmqsa.atomic import whole_file
from mmqsa.data import scenes
from mmqsa.data.geometry import VOID
from mmqsa.data.voc import CLASSES
from mmqsa.progress import progress_bar

PHOTOGRAPHS = 17_125
# Sizes of the official lists, ImageSets/FOLDER/NAME.txt.
LISTS = {
    "Segmentation": {"train": 1464, "val": 1449},
    "Main": {"train": 5717, "val": 5823},
}
SIZES = [(500, 375), (375, 500), (500, 333), (333, 500), (500, 281)]  # (width, height), px
SHARES = [0.62, 0.2, 0.11, 0.04, 0.03]
SCENES, SIDE = 60, 500  # the pool; a crop fits into its shorter side
GRAIN, QUALITY = 9.0, 96  # noise in grey levels, and JPEG quality: 110 KB a photograph
MIN_PIXELS = 400  # of an object that is cut off by the crop and still counts
TOP = "VOCdevkit/VOC2012"

Scene = tuple[np.ndarray, np.ndarray, list[int]]
"""image (h, w, 3), instances (h, w) from 1 on, class of each"""


def write_archive(path: Path, share: float, seed: int = 0) -> None:
    """Write the tar to ``path``, with ``share`` of the photographs and of every list.

    Same seed, same bytes. An interrupted one is begun again.
    """
    ids, lists = image_ids(share, seed)
    number = max(6, round(share * SCENES))
    labelled = {*lists["Segmentation/trainval"]}
    _pool(number, seed)  # once, for all the processes that are forked from this one
    workers = ProcessPoolExecutor(os.cpu_count(), get_context("fork"))
    with whole_file(path) as temporary, tarfile.open(temporary, "w") as tar, workers:
        for name, members in lists.items():
            _add(tar, f"ImageSets/{name}.txt", "\n".join(members).encode() + b"\n")
        photographs = workers.map(
            partial(_photograph, pool=(number, seed), labelled=labelled),
            enumerate(ids),
            chunksize=16,
        )
        for files in progress_bar(photographs, total=len(ids), desc="make", unit=" images"):
            for name, content in files:
                _add(tar, name, content)


def image_ids(share: float, seed: int) -> tuple[list[str], dict[str, list[str]]]:
    """Names of all photographs in VOC's manner, and of those in each list, by its path."""
    number = round(share * PHOTOGRAPHS)
    ids = [f"{2007 + 6 * index // number}_{index:06d}" for index in range(number)]
    lists = {}
    for index, (folder, sizes) in enumerate(LISTS.items()):
        order = np.random.default_rng([seed, 1, index]).permutation(number)
        train, val = (round(share * size) for size in sizes.values())
        for name, chosen in {
            "train": order[:train],
            "val": order[train : train + val],
            "trainval": order[: train + val],
        }.items():
            lists[f"{folder}/{name}"] = [ids[position] for position in sorted(chosen)]
    return ids, lists


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(f"{TOP}/{name}")
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


@cache
def _pool(number: int, seed: int) -> list[Scene]:
    """The scenes that photographs are crops of."""
    return [scenes._scene(np.random.default_rng([seed, 2, index]), SIDE) for index in range(number)]


def _photograph(
    numbered: tuple[int, str], pool: tuple[int, int], labelled: set[str]
) -> list[tuple[str, bytes]]:
    """The files of one photograph, each by its path: JPEG, xml, and label maps where it has any."""
    index, image_id = numbered
    rng = np.random.default_rng([pool[1], 3, index])
    image, instances, classes = _crop(rng, _pool(*pool))
    files = [
        (f"JPEGImages/{image_id}.jpg", _encoded(Image.fromarray(image), "JPEG", quality=QUALITY)),
        (f"Annotations/{image_id}.xml", _annotation(image_id, instances, classes)),
    ]
    if image_id in labelled:
        outline = morphological_gradient(instances, 3) > 0  # VOC marks every object's border void
        kinds = {"Object": instances, "Class": np.array([0, *classes], np.uint8)[instances]}
        for kind, labels in kinds.items():
            drawn = scenes.label_image(np.where(outline, VOID, labels).astype(np.uint8))
            files.append((f"Segmentation{kind}/{image_id}.png", _encoded(drawn, "PNG")))
    return files


def _crop(rng: np.random.Generator, pool: list[Scene]) -> Scene:
    """A part of a scene that shows an object."""
    width, height = SIZES[rng.choice(len(SIZES), p=SHARES)]
    while True:
        image, instances, classes = pool[rng.integers(len(pool))]
        top = rng.integers(image.shape[0] - height + 1)
        left = rng.integers(image.shape[1] - width + 1)
        window = np.s_[top : top + height, left : left + width]
        pixels = np.bincount(instances[window].ravel(), minlength=len(classes) + 1)
        kept = [label for label in range(1, len(classes) + 1) if pixels[label] >= MIN_PIXELS]
        if kept:
            break
    renamed = np.zeros(len(classes) + 1, dtype=np.uint8)
    renamed[kept] = range(1, len(kept) + 1)
    turned = np.s_[:, :: -1 if rng.random() < 0.5 else 1]
    grain = rng.normal(0, GRAIN, (height, width, 1)).astype(np.float32)
    noisy = (image[window][turned] + grain + rng.uniform(-10, 10)).clip(0, 255).astype(np.uint8)
    return noisy, renamed[instances[window][turned]], [classes[label - 1] for label in kept]


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _annotation(image_id: str, instances: np.ndarray, classes: list[int]) -> bytes:
    """VOC's xml, with a part that has a box too, as VOC's persons have: it is no object."""
    height, width = instances.shape
    objects = ""
    for label, (rows, columns) in zip(classes, find_objects(instances), strict=True):
        box = (
            f"<bndbox><xmin>{columns.start + 1}</xmin><ymin>{rows.start + 1}</ymin>"
            f"<xmax>{columns.stop}</xmax><ymax>{rows.stop}</ymax></bndbox>"
        )
        objects += (
            f"<object><name>{CLASSES[label - 1]}</name><pose>Unspecified</pose>"
            f"<truncated>0</truncated><difficult>0</difficult>{box}"
            f"<part><name>head</name>{box}</part></object>"
        )
    return (
        f"<annotation><folder>VOC2012</folder><filename>{image_id}.jpg</filename>"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        f"<segmented>0</segmented>{objects}</annotation>\n"
    ).encode()

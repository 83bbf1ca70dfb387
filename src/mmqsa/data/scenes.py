"""Synthetic scenes in VOC layout: a data set that needs no download.

A scene has 1-4 objects of 3-50 % of the image on cluttered ground, off centre, occluding each
other. The ground is in the dark and the objects are in the light, so that background masking has
something to go by. An object's class is its material (a texture in a pair of hues); its shape is
free. So the class can be told from a patch, as it can on photographs, and a class of several
objects is one segment of the class label map.
"""

import colorsys
import os
import re
import shutil
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import find_objects, morphological_gradient

from mmqsa.atomic import claimed
from mmqsa.config.data import ScenesConfig
from mmqsa.data.download import RECEIPT, SCENES, finish, read_receipt
from mmqsa.data.geometry import VOID
from mmqsa.data.voc import CLASSES, VocFolder
from mmqsa.errors import InputError
from mmqsa.progress import progress_bar

__all__ = ["write_scenes"]

MATERIALS = 10  # of the 20 VOC classes; more are too close in hue
FOLDERS = (
    *("JPEGImages", "SegmentationClass", "SegmentationObject", "Annotations"),
    *("ImageSets", "ImageSets/Segmentation", "ImageSets/Main"),
)
FILES = re.compile(
    r"(JPEGImages|Segmentation(Class|Object)|Annotations)/(train|val)_\d{5}\.(jpg|png|xml)"
    r"|ImageSets/(Segmentation|Main)/(train|val|trainval)\.txt"
)
MIN_VISIBLE, MAX_AREA = 0.03, 0.5  # of the image


def write_scenes(scenes: ScenesConfig, root: Path) -> int:
    """Write the train and val scenes to ``root``; returns how many. Same seed, same bytes.

    The same scenes that are there already stay. Raises InputError when anything else is.

    >>> write_scenes(ScenesConfig(train=3, val=1, side=64), Path("new"))
    4
    >>> voc = VocFolder.find("new")
    >>> voc.ids("train")
    ['train_00000', 'train_00001', 'train_00002']
    >>> photograph = voc.image("train_00000")
    >>> np.unique(voc.instances("train_00000", photograph.size))  # background, objects, void
    array([  0,   1,   2,   3,   4, 255], dtype=uint8)
    """
    with claimed(root):
        return _write_scenes(scenes, root)


def _write_scenes(scenes: ScenesConfig, root: Path) -> int:
    """Write scenes to a root that no other process writes to; returns how many."""
    made = {"source": SCENES} | scenes.model_dump()
    receipt, voc = read_receipt(root), root / "VOC2012"
    if receipt == made | {"photographs": scenes.train + scenes.val}:
        if len(VocFolder(voc).photographs()) != receipt["photographs"]:
            raise InputError(f"{voc}: not whole; remove {root / RECEIPT}, and it is made again")
        return scenes.train + scenes.val
    _check_ours(receipt, voc)
    if voc.exists():  # of other scenes, or of an attempt that was interrupted
        shutil.rmtree(voc)
    for folder in FOLDERS:
        (voc / folder).mkdir(parents=True, exist_ok=True)
    splits = {
        "train": [f"train_{index:05d}" for index in range(scenes.train)],
        "val": [f"val_{index:05d}" for index in range(scenes.val)],
    }
    splits["trainval"] = splits["train"] + splits["val"]
    bar = progress_bar(splits["trainval"], desc="scenes", unit=" images")
    for offset, image_id in enumerate(bar):
        rng = np.random.default_rng([scenes.seed, offset])
        _write_scene(voc, image_id, *_scene(rng, scenes.side))
    for split, ids in splits.items():
        for challenge in ("Segmentation", "Main"):
            (voc / "ImageSets" / challenge / f"{split}.txt").write_text("\n".join(ids) + "\n")
    finish(root, made, "scenes")
    return len(splits["trainval"])


def _check_ours(receipt: dict, voc: Path) -> None:
    """Raises InputError when there is anything else than unfinished scenes at ``voc``."""
    if receipt:
        raise InputError(
            f"{voc.parent}: holds another data set, or scenes of other settings ({RECEIPT} says "
            "which); choose another folder, or remove it"
        )
    if os.path.lexists(voc.parent / "JPEGImages"):  # which would be read in its place
        raise InputError(f"{voc.parent}: is another data set; choose another folder")
    for path in [voc, *sorted(voc.rglob("*"))] if os.path.lexists(voc) else []:
        name = path.relative_to(voc).as_posix()
        ours = name in (".", *FOLDERS) if path.is_dir() else FILES.fullmatch(name)
        if path.is_symlink() or not ours:
            raise InputError(f"{path}: is there and is no scene; choose another folder")


def _scene(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """One scene: image (h, w, 3) uint8, instance map (h, w) uint8, class of each instance."""
    height, width = side, int(side * rng.uniform(1.0, 1.35))
    if rng.random() < 0.3:
        height, width = width, height
    while True:
        image = _ground(rng, height, width)
        instances = np.zeros((height, width), dtype=np.uint8)
        classes = []
        for index in range(rng.integers(1, 5)):
            shape = _shape(rng, height, width)
            material = int(rng.integers(MATERIALS))
            image[shape] = _material(rng, material, shape)
            instances[shape] = index + 1
            classes.append(material + 1)
        visible = np.bincount(instances.ravel(), minlength=len(classes) + 1)[1:] / instances.size
        if visible.min() >= MIN_VISIBLE and visible.max() <= MAX_AREA:
            break
    noisy = image + rng.normal(0, 4, image.shape)
    return noisy.clip(0, 255).astype(np.uint8), instances, classes


def _ground(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Dark, uneven ground strewn with small clutter: (h, w, 3) float in 0..255."""
    base = rng.uniform(25, 65) + rng.uniform(-12, 12, 3)
    image = base + 12 * _smooth_noise(rng, height, width, 24)[..., None]
    image = image + 6 * _smooth_noise(rng, height, width, 3)[..., None]
    clutter = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(clutter)
    for _ in range(rng.integers(10, 40)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        radius = rng.uniform(0.005, 0.02) * min(height, width)
        shade = (base + rng.uniform(-45, 45)).clip(0, 255).astype(int)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(shade))
    return np.array(clutter, dtype=np.float64)


def _smooth_noise(rng: np.random.Generator, height: int, width: int, scale: int) -> np.ndarray:
    """Noise (h, w) of about unit variance that varies over ``scale`` px."""
    coarse = rng.normal(size=(height // scale + 2, width // scale + 2)).astype(np.float32)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float64)


def _shape(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A filled blob, polygon or star, (h, w) bool, with its centre anywhere but at the edge."""
    centre = rng.uniform(0.15, 0.85, 2) * [width, height]
    radius = np.sqrt(rng.uniform(0.05, 0.35) * height * width / np.pi)
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    kind = rng.integers(3)
    if kind == 0:  # a blob: a circle with low harmonics
        outline = 1 + sum(
            rng.uniform(0, 0.25 / k) * np.cos(k * angles + rng.uniform(0, 6.3)) for k in (2, 3, 4)
        )
    elif kind == 1:  # a regular polygon
        sector = 2 * np.pi / rng.integers(3, 7)
        outline = np.cos(sector / 2) / np.cos(angles % sector - sector / 2)
    else:  # a star
        outline = 0.75 + 0.25 * np.cos(rng.integers(4, 8) * angles)
    aspect, turn = rng.uniform(0.6, 1.6), rng.uniform(0, 2 * np.pi)
    points = radius * outline * np.stack([np.cos(angles) * aspect, np.sin(angles) / aspect])
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    canvas = Image.new("1", (width, height))
    ImageDraw.Draw(canvas).polygon([tuple(p) for p in (rotation @ points).T + centre], fill=1)
    return np.asarray(canvas)


def _material(rng: np.random.Generator, material: int, shape: np.ndarray) -> np.ndarray:
    """The texture of a class on the pixels of a shape (h, w) bool: (pixels, 3) float in 0..255."""
    hue = (material / MATERIALS + rng.uniform(-0.02, 0.02)) % 1.0
    light = 255 * np.array(colorsys.hsv_to_rgb(hue, 0.75, rng.uniform(0.85, 1.0)))
    dark = 255 * np.array(colorsys.hsv_to_rgb(hue, 0.8, 0.75))
    height, width = shape.shape
    y, x = np.stack(shape.nonzero()) / min(height, width)
    turn, pitch = rng.uniform(0, np.pi), rng.uniform(14, 22)
    along = x * np.cos(turn) + y * np.sin(turn)
    across = y * np.cos(turn) - x * np.sin(turn)
    speckle = _smooth_noise(rng, height, width, 4)
    if material % 3 == 0:
        waves = np.sin(2 * np.pi * pitch * along)  # stripes
    elif material % 3 == 1:
        waves = np.sin(2 * np.pi * pitch * along) * np.sin(2 * np.pi * pitch * across)  # checks
    else:
        waves = speckle[shape]
    mix = 0.5 + 0.5 * np.tanh(2 * waves)[:, None]
    shading = 1 + 0.12 * _smooth_noise(rng, height, width, 60)[shape][:, None]
    return (light * mix + dark * (1 - mix)) * shading


def _write_scene(
    voc: Path, image_id: str, image: np.ndarray, instances: np.ndarray, classes: list[int]
) -> None:
    Image.fromarray(image).save(voc / "JPEGImages" / f"{image_id}.jpg", quality=92)
    outline = morphological_gradient(instances, 3) > 0  # VOC marks every object's border void
    class_map = np.array([0, *classes], dtype=np.uint8)[instances]
    for folder, labels in (("SegmentationObject", instances), ("SegmentationClass", class_map)):
        drawn = label_image(np.where(outline, VOID, labels).astype(np.uint8))
        drawn.save(voc / folder / f"{image_id}.png")
    objects = "".join(  # VOC counts from 1, and its boxes include both corners
        f"<object><name>{CLASSES[label - 1]}</name><bndbox>"
        f"<xmin>{columns.start + 1}</xmin><ymin>{rows.start + 1}</ymin>"
        f"<xmax>{columns.stop}</xmax><ymax>{rows.stop}</ymax></bndbox></object>"
        for label, (rows, columns) in zip(classes, find_objects(instances), strict=True)
    )
    height, width = instances.shape
    (voc / "Annotations" / f"{image_id}.xml").write_text(
        f"<annotation><filename>{image_id}.jpg</filename><size><width>{width}</width>"
        f"<height>{height}</height><depth>3</depth></size>{objects}</annotation>\n"
    )


def label_image(labels: np.ndarray) -> Image.Image:
    """A label map (h, w) uint8 as a palette image in VOC's colours."""
    image = Image.fromarray(labels).convert("P")
    image.putpalette(voc_palette())
    return image


@cache
def voc_palette() -> list[int]:
    """The VOC colour map, 256 x RGB: bit b of a label goes to bit 7 - b // 3 of channel b % 3."""
    return [
        sum(((label >> (bit * 3 + channel)) & 1) << (7 - bit) for bit in range(3))
        for label in range(256)
        for channel in range(3)
    ]

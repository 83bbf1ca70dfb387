"""Photographs that EXIF turns, with what was drawn on them, for tests."""

import json

import numpy as np
from PIL import Image
from pycocotools import mask as run_lengths

from mmqsa.data.coco import _index

TURNS = {
    **{1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180},
    **{4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE},
    **{6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90},
}
INVERSE = {6: 8, 8: 6}  # every other turn is its own


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels that ``orientation`` turns into ``upright``."""
    turn = TURNS[INVERSE.get(orientation, orientation)]
    image = Image.fromarray(upright)
    return np.array(image if turn is None else image.transpose(turn))


def write_turned(path, upright: np.ndarray, orientation: int, format="PNG") -> None:
    """Write a photograph that is upright once EXIF has turned it; without loss in PNG."""
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(stored(upright, orientation)).save(path, format, exif=exif)


def write_xml(path, boxes, size) -> None:
    """VOC's annotation of boxes x0 y0 x1 y1, 0-based and exclusive, in an image of ``size``."""
    said = "" if size is None else f"<width>{size[0]}</width><height>{size[1]}</height>"
    tags = ("xmin", "ymin", "xmax", "ymax")
    objects = (
        "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, box, strict=True))
        for box in np.add(boxes, [1, 1, 0, 0])
    )
    text = "".join(f"<object><bndbox>{one}</bndbox></object>" for one in objects)
    path.write_text(f"<annotation><size>{said}</size>{text}</annotation>")


def extents(instances: np.ndarray) -> np.ndarray:
    """The boxes (M, 4) of instances 1, 2, …"""
    found = []
    for value in range(1, instances[instances < 255].max() + 1):
        rows, columns = np.nonzero(instances == value)
        found.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return np.array(found)


def coco_of(root, instances, shapes):
    """COCO's json of one image with the instances as polygons or run lengths."""
    height, width = instances.shape
    annotations = []
    for key, (x0, y0, x1, y1) in enumerate(extents(instances).tolist(), start=1):
        shape = [[x0, y0, x1, y0, x1, y1, x0, y1]]
        if shapes == "rle":
            runs = run_lengths.encode(np.asfortranarray(instances == key, dtype=np.uint8))
            shape = {"size": [height, width], "counts": runs["counts"].decode()}
        bbox = [x0, y0, x1 - x0, y1 - y0]
        annotations.append({"id": key, "image_id": 1, "category_id": key, "bbox": bbox})
        annotations[-1] |= {"segmentation": shape, "iscrowd": 0}
    image = {"id": 1, "file_name": "a.jpg", "width": width, "height": height}
    content = {"images": [image], "annotations": annotations}
    content["categories"] = [{"id": 1}, {"id": 2}]
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations/instances_val2017.json").write_text(json.dumps(content))
    _index.cache_clear()

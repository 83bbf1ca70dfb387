"""Files of a segmentation: label maps, overlays, a table of objects, COCO annotations."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from mmqsa.atomic import whole_file, write_text
from mmqsa.data.photograph import read_photograph
from mmqsa.data.scenes import label_image, voc_palette
from mmqsa.discover.photographs import find_photographs
from mmqsa.discover.segmenter import Segmentation, Segmenter
from mmqsa.errors import InputError
from mmqsa.progress import progress_bar

COLUMNS = [
    *("image", "mask", "object", "background", "area", "share"),
    *("x0", "y0", "x1", "y1", "score"),
]


def discover(segmenter: Segmenter, paths: Iterable[Path], out: Path, batch: int = 8) -> int:
    """Segment all photographs among ``paths``; returns how many there were.

    Writes to ``out``: ``masks/NAME.png`` (palette; 0 is background), ``overlays/NAME.jpg``,
    ``objects.csv`` and ``coco.json``. A file that cannot be read is named and skipped; once all
    others are done, InputError says how many there were.
    """
    photographs = find_photographs(paths, besides=out)
    rows: list[dict] = []
    categories = [{"id": 1, "name": "object"}]
    coco: dict[str, list] = {"images": [], "annotations": [], "categories": categories}
    unread, waiting = [], []
    bar = progress_bar(photographs, desc="discover", unit=" images")
    for path, name in bar:
        try:
            waiting.append((path, name, read_photograph(path)))
        except InputError as error:
            unread.append(path)
            bar.write(f"{error}; skipped", file=bar.fp)
        if len(waiting) == batch or (waiting and path is photographs[-1][0]):
            ids = [source.stem for source, *_ in waiting]
            segmentations = segmenter([image for *_, image in waiting], ids)
            for (source, stem, image), objects in zip(waiting, segmentations, strict=True):
                mask = _write_pictures(out, stem, image, objects)
                rows += _rows(source, mask, objects)
                _annotate(coco, source, objects)
            waiting = []
    table = pd.DataFrame(rows, columns=COLUMNS)
    csv = table.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    write_text(out / "objects.csv", csv)
    write_text(out / "coco.json", json.dumps(coco) + "\n")
    done = len(coco["images"])
    if unread:
        raise InputError(
            f"{len(unread)} of {len(photographs)} photographs could not be read: "
            f"{', '.join(map(str, unread[:5]))}{', …' if len(unread) > 5 else ''}; "
            f"the results of the other {done} are in {out}"
        )
    return done


def _write_pictures(out: Path, name: Path, image: Image.Image, objects: Segmentation) -> Path:
    """Label map and overlay; returns the label map's path below ``out``."""
    path = Path("masks", f"{name}.png")
    with whole_file(out / path) as temporary:
        label_image(objects.labels).save(temporary)
    with whole_file(out / "overlays" / f"{name}.jpg") as temporary:
        overlay(image, objects).save(temporary, quality=90)
    return path


def overlay(image: Image.Image, objects: Segmentation) -> Image.Image:
    """The photograph with its objects in the palette's colours, in their boxes."""
    colours = np.array(voc_palette(), dtype=np.uint8).reshape(-1, 3)
    pixels = np.array(image)
    inside = objects.labels > 0
    pixels[inside] = pixels[inside] // 2 + colours[objects.labels[inside]] // 2
    drawn = Image.fromarray(pixels)
    pen, width = ImageDraw.Draw(drawn), max(2, round(min(image.size) / 200))
    for index, (x0, y0, x1, y1) in enumerate(objects.boxes, start=1):
        colour = tuple(int(value) for value in colours[index])
        pen.rectangle((x0, y0, x1 - 1, y1 - 1), outline="white", width=width + 2)
        if min(x1 - x0, y1 - y0) > 2:
            pen.rectangle((x0 + 1, y0 + 1, x1 - 2, y1 - 2), outline=colour, width=width)
    return drawn


def _rows(path: Path, mask: Path, objects: Segmentation) -> list[dict]:
    """One row for the background, which has no box, then one for each object."""
    rows = []
    for index, area in enumerate(objects.areas):
        row = {"image": path, "mask": mask, "object": index, "background": index == 0}
        row |= {"area": int(area), "share": area / objects.labels.size}
        score = objects.background_score
        if index:
            box, score = objects.boxes[index - 1], objects.scores[index - 1]
            row |= dict(zip(("x0", "y0", "x1", "y1"), box.astype(int).tolist(), strict=True))
        rows.append(row | {"score": round(float(score), 4)})
    return rows


def _annotate(coco: dict, path: Path, objects: Segmentation) -> None:
    """Add an image and its objects to a COCO data set; masks are compressed run lengths."""
    height, width = objects.labels.shape
    image_id = len(coco["images"]) + 1
    coco["images"].append(
        {"id": image_id, "file_name": str(path), "width": width, "height": height}
    )
    for mask, score, box, area in zip(
        objects.masks, objects.scores, objects.boxes, objects.areas[1:], strict=True
    ):
        runs = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        x0, y0, x1, y1 = box.tolist()
        coco["annotations"].append(
            {
                "id": len(coco["annotations"]) + 1,
                "image_id": image_id,
                "category_id": 1,
                "segmentation": {"size": [height, width], "counts": runs["counts"].decode()},
                "area": int(area),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": 0,
                "score": round(float(score), 4),
            }
        )

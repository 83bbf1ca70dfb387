"""Files of a segmentation: label maps, overlays, a table of objects, COCO annotations."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from mmqsa.atomic import claimed, is_disk_fault, whole_file, write_text
from mmqsa.data.photograph import read_photograph
from mmqsa.data.scenes import label_image, voc_palette
from mmqsa.discover.photographs import find_photographs, shown
from mmqsa.discover.segmenter import Segmentation, Segmenter
from mmqsa.errors import InputError, MachineError
from mmqsa.progress import progress_bar

COLUMNS = [
    *("image", "mask", "object", "background", "area", "share"),
    *("x0", "y0", "x1", "y1", "score"),
]
GROUP_PIXELS = 16_000_000  # of photographs that are held at a time, but for a single larger one
OVERLAY_SIDE = 3000  # px; JPEG has a limit of 65,500

Skip = Callable[[Path, Exception], None]


def discover(segmenter: Segmenter, paths: Iterable[Path], out: Path, batch: int = 8) -> int:
    """Segment all photographs among ``paths``; returns how many there were.

    Writes to ``out``, a new or empty folder: ``masks/NAME.png`` (palette; 0 is background),
    ``overlays/NAME.jpg``, ``objects.csv``, row by row, and ``coco.json`` when it ends, in whatever
    way. A photograph that cannot be read or segmented is named and skipped; once all others are
    done, InputError says how many there were.
    """
    with claimed(out):
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise InputError(f"{out}: exists and is no empty folder; name a new one")
        return _discover(segmenter, paths, out, batch)


def _discover(segmenter: Segmenter, paths: Iterable[Path], out: Path, batch: int) -> int:
    """Segment photographs into an empty folder that no other process writes to."""
    photographs, skipped = find_photographs(paths, besides=out), []
    bar = progress_bar(total=len(photographs), desc="discover", unit=" images")

    def skip(path: Path, error: Exception) -> None:
        # A fault of the machine ends the command; of a photograph, it is skipped.
        if isinstance(error, MachineError) or is_disk_fault(error):
            raise error
        skipped.append(shown(path))
        reason = str(error) if isinstance(error, InputError) else f"{shown(path)}: {error}"
        bar.write(f"{' '.join(reason.split())}; skipped", file=bar.fp)

    with _Results(out) as results, bar:
        for group in _groups(photographs, batch, skip):
            for photograph, objects in _segmented(segmenter, group, skip):
                try:
                    results.add(photograph, objects)
                except Exception as error:  # one photograph is no reason to lose the others
                    skip(photograph.path, error)
            bar.update(len(group))
    if skipped:
        raise InputError(
            f"{len(skipped)} of {len(photographs)} photographs were skipped: "
            f"{', '.join(skipped[:5])}{', …' if len(skipped) > 5 else ''}; "
            f"the results of the other {results.done} are in {out}"
        )
    return results.done


class _Photograph(NamedTuple):
    path: Path
    name: Path  # of its results, without suffix; text in UTF-8
    image: Image.Image


def _groups(
    photographs: Iterable[tuple[Path, Path]], batch: int, skip: Skip
) -> Iterator[list[_Photograph]]:
    """Photographs that are segmented together: at most ``batch``, and few large ones."""
    group: list[_Photograph] = []
    for path, name in photographs:
        try:
            image = read_photograph(path)
        except Exception as error:
            skip(path, error)
            continue
        pixels = sum(other.image.width * other.image.height for other in group)
        if group and (len(group) == batch or pixels + image.width * image.height > GROUP_PIXELS):
            yield group
            group = []
        group.append(_Photograph(path, name, image))
    if group:
        yield group


def _segmented(
    segmenter: Segmenter, group: list[_Photograph], skip: Skip
) -> Iterator[tuple[_Photograph, Segmentation]]:
    """Each photograph with its objects; one by one where they fail together."""
    ids = [shown(Path(one.path.stem)) for one in group]
    try:
        found = segmenter([one.image for one in group], ids)
    except Exception as error:
        if len(group) == 1:
            skip(group[0].path, error)
            return
        for one in group:
            yield from _segmented(segmenter, [one], skip)
        return
    yield from zip(group, found, strict=True)


class _Results:
    """The files of a discovery; the csv grows row by row, the json is written at the end."""

    def __init__(self, out: Path):
        self.out, self.done = out, 0
        self._coco: dict[str, list] = {
            **{"images": [], "annotations": []},
            "categories": [{"id": 1, "name": "object"}],
        }

    def __enter__(self) -> "_Results":
        self.out.mkdir(parents=True, exist_ok=True)
        self._file = (self.out / "objects.csv").open("w", encoding="utf-8", newline="")
        self._rows = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")
        self._rows.writeheader()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        write_text(self.out / "coco.json", json.dumps(self._coco) + "\n")

    def add(self, photograph: _Photograph, objects: Segmentation) -> None:
        """Write a photograph's pictures, then its rows."""
        mask = _write_pictures(self.out, photograph.name, photograph.image, objects)
        annotations = _annotations(objects)
        self._rows.writerows(_rows(photograph.path, mask, objects))
        self._file.flush()
        self._add_to_coco(photograph.path, objects, annotations)
        self.done += 1

    def _add_to_coco(self, path: Path, objects: Segmentation, annotations: list[dict]) -> None:
        height, width = objects.labels.shape
        image_id = len(self._coco["images"]) + 1
        image = {"id": image_id, "file_name": shown(path), "width": width, "height": height}
        self._coco["images"].append(image)
        for annotation in annotations:
            ids = {"id": len(self._coco["annotations"]) + 1, "image_id": image_id}
            self._coco["annotations"].append(ids | annotation)


def _write_pictures(out: Path, name: Path, image: Image.Image, objects: Segmentation) -> Path:
    """Label map and overlay; returns the label map's path below ``out``."""
    path = Path("masks", f"{name}.png")
    with whole_file(out / path) as temporary:
        label_image(objects.labels).save(temporary)
    with whole_file(out / "overlays" / f"{name}.jpg") as temporary:
        overlay(image, objects).save(temporary, quality=90)
    return path


def overlay(image: Image.Image, objects: Segmentation) -> Image.Image:
    """The photograph with its objects in the palette's colours, in their boxes.

    A large one is drawn smaller: at most OVERLAY_SIDE px a side.
    """
    scale = min(1.0, OVERLAY_SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    labels = np.asarray(Image.fromarray(objects.labels).resize(size, Image.Resampling.NEAREST))
    colours = np.array(voc_palette(), dtype=np.uint8).reshape(-1, 3)
    pixels = np.array(image if image.size == size else image.resize(size))
    inside = labels > 0
    pixels[inside] = pixels[inside] // 2 + colours[labels[inside]] // 2
    drawn = Image.fromarray(pixels)
    pen, width = ImageDraw.Draw(drawn), max(2, round(min(size) / 200))
    for index, (x0, y0, x1, y1) in enumerate(objects.boxes * scale, start=1):
        colour = tuple(int(value) for value in colours[index])
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline="white", width=width + 2)
        if min(x1 - x0, y1 - y0) > 2:
            pen.rectangle((x0 + 1, y0 + 1, x1 - 2, y1 - 2), outline=colour, width=width)
    return drawn


def _rows(path: Path, mask: Path, objects: Segmentation) -> list[dict]:
    """One row for the background, which has no box, then one for each object."""
    rows = []
    for index, area in enumerate(objects.areas):
        row = {"image": shown(path), "mask": mask, "object": index, "background": index == 0}
        row |= {"area": int(area), "share": f"{area / objects.labels.size:.6g}"}
        score = objects.background_score
        if index:
            box, score = objects.boxes[index - 1], objects.scores[index - 1]
            row |= dict(zip(("x0", "y0", "x1", "y1"), box.astype(int).tolist(), strict=True))
        rows.append(row | {"score": round(float(score), 4)})
    return rows


def _annotations(objects: Segmentation) -> list[dict]:
    """COCO annotations of the objects, without ids; masks are compressed run lengths."""
    annotations = []
    for index, (score, box, area) in enumerate(
        zip(objects.scores, objects.boxes, objects.areas[1:], strict=True), start=1
    ):
        runs = coco_mask.encode(np.asfortranarray(objects.labels == index, dtype=np.uint8))
        x0, y0, x1, y1 = box.tolist()
        annotations.append(
            {
                "category_id": 1,
                "segmentation": {
                    "size": list(objects.labels.shape),
                    "counts": runs["counts"].decode(),
                },
                "area": int(area),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": 0,
                "score": round(float(score), 4),
            }
        )
    return annotations

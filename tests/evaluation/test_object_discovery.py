"""Single-object discovery: boxes as LOST, TokenCut and FOUND read and count them."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from mmqsa.data.layouts import open_folder
from mmqsa.evaluation.labelled_images import LabelledFolder
from mmqsa.evaluation.metrics import GroundTruth, image_metrics
from mmqsa.features.cache import FeatureCache
from mmqsa.features.extract import extract

DATA = [("voc2007", "detection-trainval"), ("coco20k", "train")]  # fixtures, and splits
SIZES = {"000009": (90, 70), "000004": (64, 100), "000007": (81, 63)}  # w, h
# Left, top, width and height of each object in px, and whether a crowd (in VOC: difficult).
OBJECTS = {
    "000009": [(10.4, 8.5, 40.2, 30.1, 0), (0.0, 0.0, 90.0, 70.0, 1)],
    "000004": [(0.5, 1.5, 20.0, 50.0, 0), (30.49, 20.51, 33.3, 70.2, 0)],
    "000007": [(5.0, 5.0, 60.0, 40.0, 0), (70.2, 50.7, 2.4, 3.1, 0), (20.0, 10.0, 9.5, 9.5, 1)],
}


def write_photograph(path, size):
    pixels = np.random.default_rng(sum(size)).integers(0, 255, (size[1], size[0], 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def voc2007(tmp_path_factory):
    """VOCdevkit/VOC2007 with whole boxes, difficult and truncated ones among them."""
    root = tmp_path_factory.mktemp("voc2007")
    folder = root / "VOCdevkit/VOC2007"
    for name in ("ImageSets/Main", "ImageSets/Segmentation", "Annotations"):
        (folder / name).mkdir(parents=True)
    (folder / "ImageSets/Main/trainval.txt").write_text("\n".join(SIZES) + "\n")
    for name, size in SIZES.items():
        write_photograph(folder / f"JPEGImages/{name}.jpg", size)
        objects = ""
        for x, y, w, h, hard in OBJECTS[name]:
            x0, y0 = int(x) + 1, int(y) + 1
            x1, y1 = int(x + w), int(y + h)
            # A part of a person has a box of its own, which is no object's.
            part = "<part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax>"
            objects += (
                f"<object><name>person</name><truncated>{hard}</truncated>"
                f"<difficult>{hard}</difficult><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
                f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>"
                f"{part}<ymax>9</ymax></bndbox></part></object>"
            )
        path = folder / f"Annotations/{name}.xml"
        path.write_text(f"<annotation>{objects}</annotation>")
    return root


@pytest.fixture(scope="module")
def coco20k(tmp_path_factory):
    """COCO 2014 with one more image than the list names."""
    root = tmp_path_factory.mktemp("coco20k")
    images, annotations = [], []
    for name, size in (SIZES | {"000001": (50, 50)}).items():
        file = f"COCO_train2014_{int(name):012d}.jpg"
        write_photograph(root / "train2014" / file, size)
        images.append({"id": int(name), "file_name": file, "width": size[0], "height": size[1]})
        for x, y, w, h, crowd in OBJECTS.get(name, []):
            square = [x, y, x + w, y, x + w, y + h, x, y + h]
            whole = {"size": [size[1], size[0]], "counts": [0, size[0] * size[1]]}
            annotations.append(
                {
                    **{"id": len(annotations) + 1, "image_id": int(name), "category_id": 18},
                    **{"segmentation": whole if crowd else [square], "iscrowd": crowd},
                    **{"bbox": [x, y, w, h], "area": w * h},
                }
            )
    (root / "annotations").mkdir()
    content = {"images": images, "annotations": annotations, "categories": [{"id": 18}]}
    (root / "annotations/instances_train2014.json").write_text(json.dumps(content))
    lines = [f"train2014/COCO_train2014_{int(name):012d}.jpg\n" for name in SIZES]
    (root / "coco_20k_filenames.txt").write_text("".join(lines))
    return root


def of_voc(root, name):
    """All objects' boxes, read anew: by lines, parts taken out; from 0, the last pixel included."""
    text = (root / f"VOCdevkit/VOC2007/Annotations/{name}.xml").read_text()
    text = re.sub("<part>.*?</part>", "", text)
    found = (
        map(int, re.findall(f"<{tag}>(\\d+)<", text)) for tag in ("xmin", "ymin", "xmax", "ymax")
    )
    return [(x0 - 1, y0 - 1, x1, y1) for x0, y0, x1, y1 in zip(*found, strict=True)]


def of_coco(root, name):
    """All boxes but crowds', corners rounded to whole pixels."""
    content = json.loads((root / "annotations/instances_train2014.json").read_text())
    boxes = []
    for entry in content["annotations"]:
        if entry["image_id"] == int(name) and entry["iscrowd"] != 1:
            x, y, w, h = entry["bbox"]
            boxes.append(tuple(map(round, (x, y, x + w, y + h))))
    return boxes


def hit(box, truths):
    """Whether a box has an IoU of at least 0.5 with any of the others, pixel by pixel."""
    for truth in truths:
        pixels = []
        for x0, y0, x1, y1 in (box, truth):
            pixels.append({(x, y) for x in range(x0, x1) for y in range(y0, y1)})
        one, other = pixels
        if 2 * len(one & other) >= len(one | other):
            return 1
    return 0


@pytest.mark.parametrize(
    "fixture, split, read",
    [("voc2007", "detection-trainval", of_voc), ("coco20k", "train", of_coco)],
)
def test_boxes_are_counted_as_the_published_code_does(request, fixture, split, read):
    root = request.getfixturevalue(fixture)
    folder, rng, hits = open_folder(root), np.random.default_rng(0), []
    labels = LabelledFolder(folder, split, fixture, "native", 320)
    assert [image_id[-6:] for image_id in labels.ids] == list(SIZES)
    for index, name in enumerate(SIZES):
        truths = read(root, name)
        np.testing.assert_array_equal(labels.boxes[index], truths)
        (x0, y0, x1, y1), nothing = truths[0], np.zeros(SIZES[name][::-1], np.uint8)
        tries = [(x0, y0, x1, y1 + (y1 - y0)), (x0, y0, x1, y1)]  # of an IoU of exactly 0.5, and 1
        near = truths[rng.integers(len(truths))] + rng.integers(-12, 13, (60, 4))
        tries += [tuple(box) for box in near.tolist() if box[0] < box[2] and box[1] < box[3]]
        for box in tries:
            truth = GroundTruth(None, None, ["boxes"], labels.boxes[index])
            scores = image_metrics(nothing, truth, np.array([box], np.float64))
            assert scores["boxes", "corloc_one_box_or_equal"] == hit(box, truths)
            hits.append(hit(box, truths))
        half = image_metrics(nothing, truth, np.array(tries[:1], np.float64))
        assert half["boxes", "corloc_one_box"] == 0  # ours asks for more than 0.5
    assert 20 < sum(hits) < len(hits) - 20


@pytest.mark.parametrize(
    "fixture, split", [("voc2007", "detection-trainval"), ("coco20k", "train")]
)
def test_from_photographs_to_a_cache_of_boxes(request, tmp_path, config, fixture, split):
    folder = open_folder(request.getfixturevalue(fixture))
    dataset = {"kind": fixture, "name": fixture, "geometry": "squash", "eval_split": "train"}
    own = config.model_copy(update={"dataset": config.dataset.model_copy(update=dataset)})
    extract(folder, split, own, tmp_path / "boxes.h5", torch.device("cpu"))
    cache = FeatureCache(tmp_path / "boxes.h5")
    assert [image_id[-6:] for image_id in cache.ids] == list(SIZES)
    counts = [sum(1 - crowd for *_, crowd in OBJECTS[name]) for name in SIZES]
    expected = [len(OBJECTS[name]) for name in SIZES] if fixture == "voc2007" else counts
    assert [len(boxes) for boxes in cache.boxes] == expected

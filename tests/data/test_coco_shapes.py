"""Objects of COCO without a shape: boxes alone, objects of nothing, and what is said of them."""

import json

import numpy as np
import pytest
from conftest import CPU
from PIL import Image

from mmqsa.data.coco import CocoFolder, _index
from mmqsa.data.coco_shapes import is_absent
from mmqsa.evaluation.controls import score_controls
from mmqsa.evaluation.labelled_images import LabelledFolder
from mmqsa.evaluation.scoring import Scorer
from mmqsa.features.cache import FeatureCache
from mmqsa.features.extract import extract

WIDTH, HEIGHT = SIZE = (40, 30)


def square(x, y, side):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def coco(root, *shapes, boxes=None):
    """Two photographs with a large object and a small one on it, of the given ``segmentation``s.

    The first two are those of the first photograph. ``boxes`` are in place of the true ones.
    """
    for name in ("annotations", "val2017"):
        (root / name).mkdir(exist_ok=True)
    annotations, images = [], []
    for number, shape in enumerate(shapes):
        x, y, side = ((2, 2, 25), (10, 10, 5))[number % 2]
        box = [x, y, side, side] if boxes is None else boxes[number]
        entry = {"id": number + 1, "image_id": number // 2 + 1, "category_id": 3 + number % 2}
        shape = square(x, y, side) if shape == "own" else shape
        annotations.append(entry | {"bbox": box, "segmentation": shape})
    for key in (1, 2):
        Image.new("RGB", SIZE).save(root / f"val2017/{key}.jpg")
        images.append({"id": key, "file_name": f"{key}.jpg", "width": WIDTH, "height": HEIGHT})
    categories = [{"id": 3}, {"id": 4}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations/instances_val2017.json").write_text(json.dumps(content))
    _index.cache_clear()
    return CocoFolder(root)


ABSENT = {
    "null": None,
    "no polygon": [],
    "an empty polygon": [[]],
    "nothing": {},
    "a polygon from 0 to 1": [[0.1, 0.1, 0.6, 0.1, 0.6, 0.6]],
    "runs of nothing": {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]},
    "text runs of nothing": {"size": [HEIGHT, WIDTH], "counts": "`U1"},
}


def notices(capsys):
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if line.strip() and not line.startswith("labels: ")]


@pytest.mark.parametrize("shape", ABSENT.values(), ids=ABSENT)
def test_boxes_alone_are_no_label_maps_but_boxes(tmp_path, capsys, shape):
    assert is_absent(shape)
    folder = coco(tmp_path, *[shape] * 4)
    for image_id in ("1", "2"):
        assert folder.classes(image_id, SIZE) is folder.instances(image_id, SIZE) is None
        np.testing.assert_array_equal(folder.boxes(image_id)[1], [10, 10, 15, 15])
    (line,) = notices(capsys)
    assert "4 of 4 annotations have a box but no shape of a pixel or more" in line
    assert line.endswith("there are no label maps")


@pytest.mark.parametrize("geometry", ["squash", "native"])
def test_boxes_alone_from_photographs_to_scores(tmp_path, capsys, config, geometry):
    folder = coco(tmp_path, *[[]] * 4)
    changes = {"kind": "coco", "name": "mine", "geometry": geometry}
    own = config.model_copy(update={"dataset": config.dataset.model_copy(update=changes)})
    extract(folder, "val", own, tmp_path / "val.h5", CPU)
    cache = FeatureCache(tmp_path / "val.h5")
    labels = LabelledFolder(folder, "val", "mine", geometry, 96)
    made = [score_controls(one, tmp_path / str(n)) for n, one in enumerate((cache, labels))]
    assert made[0].read_bytes() == made[1].read_bytes()
    assert "boxes,corloc" in made[0].read_text()
    _, *ours = [line for line in notices(capsys) if line.startswith(str(tmp_path))]
    left_out = "protocols paper, dinosaur and spot left out: no class label maps, no instance"
    assert [left_out in line for line in ours] == [True] * 2 * (geometry == "native")


def test_an_object_without_a_shape_among_others_is_void(tmp_path, capsys):
    """Its pixels are unknown: those of its box, but for smaller objects on it."""
    folder = coco(tmp_path, None, "own", "own", [])
    assert folder.ids("val") == ["1", "2"]
    (line,) = notices(capsys)
    assert "2 of 4 annotations have a box but no shape" in line and "their boxes are void" in line
    for read in (folder.classes, folder.instances):
        first, second = read("1", SIZE), read("2", SIZE)
        assert first[0, 0] == second[0, 0] == 0
        assert first[3, 3] == second[12, 12] == 255
        assert first[12, 12] not in (0, 255) and second[3, 3] not in (0, 255)
    assert folder.classes("1", SIZE)[12, 12] == 2 and folder.instances("1", SIZE)[12, 12] == 1
    assert len(folder.boxes("1")) == len(folder.boxes("2")) == 2


def test_an_image_whose_objects_have_boxes_alone_has_no_label_maps(tmp_path, capsys):
    folder = coco(tmp_path, "own", "own", None, [])
    assert folder.classes("1", SIZE) is not None and folder.classes("2", SIZE) is None
    scorer = Scorer(LabelledFolder(folder, "val", "mine", "crop", 24))
    scorer.add([0, 1], np.zeros((2, 24, 24), np.uint8), name="one")
    assert set(scorer.metrics(["name"])["n_images"]) == {1}
    assert any(
        "no object in 1 of 2 images (label maps): all is void" in line for line in notices(capsys)
    )


def test_an_object_of_nothing_is_left_out_with_a_word(tmp_path, capsys):
    whole = coco(tmp_path, "own", "own")
    expected = [whole.classes("1", SIZE), whole.instances("1", SIZE), whole.boxes("1")]
    boxes = [[2, 2, 25, 25], [10, 10, 5, 5], [0, 0, 0, 0], [3, 3, 0, 7]]
    folder = coco(tmp_path, "own", "own", [], None, boxes=boxes)
    found = [folder.classes("1", SIZE), folder.instances("1", SIZE), folder.boxes("1")]
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not folder.classes("2", SIZE).any() and not len(folder.boxes("2"))
    assert "2 of 4 annotations have neither a shape nor a box" in notices(capsys)[0]


def test_boxes_that_were_never_set_are_counted(tmp_path, capsys):
    folder = coco(tmp_path, *["own"] * 4, boxes=[[0, 0, 0, 0]] * 4)
    scorer = Scorer(LabelledFolder(folder, "val", "mine", "native", 24))
    assert scorer.protocols == {"paper", "dinosaur", "spot"}
    said = notices(capsys)
    assert "boxes of less than a pixel in 2 of 2 images" in said[0]
    assert "protocol boxes left out: no object in 2 of 2 images (boxes)" in said[1]


def test_an_empty_polygon_beside_others_is_nothing(tmp_path):
    whole, other = (
        coco(tmp_path, square(2, 2, 25) + more, "own").classes("1", SIZE) for more in ([], [[]])
    )
    np.testing.assert_array_equal(whole, other)


def test_more_boxes_than_a_label_map_has_labels(tmp_path):
    folder = coco(tmp_path, None, None)
    path = tmp_path / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    first = content["annotations"][0]
    content["annotations"] += [first | {"id": 10 + number} for number in range(300)]
    path.write_text(json.dumps(content))
    _index.cache_clear()
    assert len(folder.boxes("1")) == 302


@pytest.mark.faults
def test_the_advice_for_a_flat_polygon_works(tmp_path, mmqsa):
    flat, labels = square(2, 2, 25)[0], np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[2:27, 2:27] = 1
    (tmp_path / "pred").mkdir()
    for key in (1, 2):
        Image.fromarray(labels).save(tmp_path / f"pred/{key}.png")
    (tmp_path / "own.yaml").write_text("dataset: {name: mine, kind: coco}\n")
    options = ["--predictions", tmp_path / "pred", "--name", "own", "--data", tmp_path]
    options += ["--config", tmp_path / "own.yaml", "--results", tmp_path / "results"]
    coco(tmp_path, flat, "own")
    code, _, err = mmqsa("score", *options, "--no-controls")
    assert code == 2 and "annotation 1 has no readable shape: its segmentation is a single" in err
    assert "not a list of polygons, [[x1, y1" in err
    for mended in ([flat], None):  # put into a list, or taken out
        coco(tmp_path, mended, "own")
        anew = ["--results", tmp_path / f"results-{mended is None}"]  # of other labels
        code, _, _ = mmqsa("score", *options, *anew, "--no-controls")
        assert not code

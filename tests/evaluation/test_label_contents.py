"""What the labels of a data set hold is said, or refused, before anything is scored."""

import json

import numpy as np
import pytest
from conftest import CPU
from PIL import Image

from mmqsa.config.files import dump_yaml
from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError
from mmqsa.evaluation.baselines import score_baseline
from mmqsa.evaluation.controls import score_controls
from mmqsa.evaluation.evaluate import evaluate, score_snapshots, sweep
from mmqsa.evaluation.labelled_images import LabelledFolder
from mmqsa.evaluation.metrics import PROTOCOLS
from mmqsa.evaluation.premise import measure_premise
from mmqsa.evaluation.scoring import Scorer
from mmqsa.features.cache import FeatureCache
from mmqsa.features.extract import extract
from mmqsa.training.run import Run

HEIGHT, WIDTH, SIDE = 30, 40, 24


def label_map(*objects, ground=0):
    """A label map with squares: value, left, top and side of each."""
    labels = np.full((HEIGHT, WIDTH), ground, dtype=np.uint8)
    for value, x, y, side in objects:
        labels[y : y + side, x : x + side] = value
    return labels


TWO = label_map((1, 8, 3, 10), (2, 22, 12, 12))
SCENE = {"classes": TWO, "instances": TWO, "boxes": [(9, 4, 18, 13), (23, 13, 34, 24)]}


def write(root, images):
    """A data set in VOC's layout; of each image any of classes, instances and boxes."""
    for name in ("JPEGImages", "ImageSets/Segmentation", "ImageSets/Main"):
        (root / name).mkdir(parents=True, exist_ok=True)
    names = [f"im{number}" for number in range(len(images))]
    for name, labels in zip(names, images, strict=True):
        Image.new("RGB", (WIDTH, HEIGHT)).save(root / f"JPEGImages/{name}.jpg")
        maps = {"classes": "SegmentationClass", "instances": "SegmentationObject"}
        for kind, folder in maps.items():
            (root / folder).mkdir(exist_ok=True)
            if kind in labels:
                Image.fromarray(labels[kind]).save(root / folder / f"{name}.png")
        if "boxes" in labels:
            tags = ("xmin", "ymin", "xmax", "ymax")
            objects = [
                "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, box, strict=True))
                for box in labels["boxes"]
            ]
            inside = "".join(f"<object><bndbox>{box}</bndbox></object>" for box in objects)
            (root / "Annotations").mkdir(exist_ok=True)
            text = f"<annotation>{inside}</annotation>"
            (root / f"Annotations/{name}.xml").write_text(text)
    for task in ("Segmentation", "Main"):
        (root / f"ImageSets/{task}/val.txt").write_text("\n".join(names))
    return root


def scorer(root, images, geometry="crop"):
    write(root, images)
    split = "val" if geometry in ("crop", "released") else "detection-val"
    return Scorer(LabelledFolder(VocFolder.find(root), split, "mine", geometry, SIDE), True)


def said(capsys):
    """The notices so far."""
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if line.strip() and not line.startswith("labels: ")]


def without(*kinds, **others):
    return {kind: value for kind, value in SCENE.items() if kind not in kinds} | others


def test_labels_without_fault_need_no_word(tmp_path, capsys):
    for geometry in ("crop", "squash", "native", "released"):
        scorer(tmp_path, [SCENE, SCENE], geometry)
    assert not said(capsys)


BINARY = label_map((255, 8, 3, 10), (255, 22, 12, 12))  # made for a binary segmentation
EMPTY = label_map()
REFUSED = {
    "binary masks": (
        {"classes": BINARY},
        "no object in 2 of 2 images (class label maps): all foreground is void (255), so nothing "
        "can be scored; label objects 1, 2, …",
    ),
    "background alone": (
        {"classes": EMPTY, "instances": EMPTY},
        "no object in 2 of 2 images (label maps), so nothing can be scored; take a split with",
    ),
    "void alone": (
        {"classes": label_map(ground=255)},
        "(class label maps): all is void (255) or not labelled, so nothing can be scored",
    ),
    "nothing": ({}, "has no label maps, so nothing can be scored on it; take a split that has any"),
    "boxes alone": ({"boxes": SCENE["boxes"]}, "use --geometry squash or native"),
}


@pytest.mark.faults
@pytest.mark.parametrize("what", REFUSED)
def test_labels_without_any_object_are_refused(tmp_path, what):
    labels, expected = REFUSED[what]
    with pytest.raises(InputError) as refused:
        scorer(tmp_path, [labels, labels])
    line = str(refused.value)
    assert line.startswith(f"{tmp_path}: ") and expected in line and "\n" not in line


@pytest.mark.faults
@pytest.mark.parametrize("geometry", ["squash", "native"])
def test_boxes_without_any_object_are_refused(tmp_path, geometry):
    """Such as annotations of another tool, whose boxes have other names."""
    with pytest.raises(InputError, match=r"no object in 2 of 2 images \(boxes\), so nothing"):
        scorer(tmp_path, [{"boxes": []}] * 2, geometry)


@pytest.mark.faults
def test_what_some_images_lack_is_counted(tmp_path, capsys):
    void = label_map(ground=255)
    images = [SCENE, without(classes=BINARY, instances=BINARY), without(classes=EMPTY)]
    images += [without(classes=void, instances=void), without(instances=EMPTY, classes=EMPTY)]
    scorer(tmp_path, images, "crop")
    first, second = said(capsys)
    assert first == (
        f"{tmp_path}: no object in 4 of 5 images (class label maps): all foreground is void (255) "
        "in 1 of them, all is void (255) or not labelled in 1 of them; no object in 3 of 5 images "
        "(instance label maps): all foreground is void (255) in 1 of them, all is void (255) or "
        "not labelled in 1 of them; an image without an object counts for mIoU (with bg) alone"
    )
    assert "contradict each other in 1 of 5 images" in second


LEFT_OUT = [
    ("crop", "instances", "protocol dinosaur left out, without FG-ARI, mBO^i, mIoU (instances) of"),
    ("crop", "classes", "protocols paper and single left out, without mBO^c of dinosaur and mBO^c"),
    ("native", "boxes", "protocols boxes and single left out: no boxes"),
]


@pytest.mark.faults
@pytest.mark.parametrize("geometry, kind, expected", LEFT_OUT)
def test_protocols_that_the_labels_do_not_allow_are_named(
    tmp_path, capsys, geometry, kind, expected
):
    found = scorer(tmp_path, [without(kind)] * 2, geometry)
    (line,) = said(capsys)
    assert line.startswith(f"{tmp_path}: ") and expected in line
    labels = TWO if geometry == "native" else np.zeros((SIDE, SIDE), np.uint8)
    found.add([0, 1], [labels] * 2, name="any")
    scored = set(found.metrics(["name"])["protocol"])
    assert scored == found.protocols
    assert {name for name in PROTOCOLS if f"{name} " in expected.split("left")[0]}.isdisjoint(
        scored
    )


@pytest.mark.faults
def test_a_kind_without_an_object_is_left_out(tmp_path, capsys):
    """Its scores would be those of the background alone: mIoU 100."""
    found = scorer(tmp_path, [without(classes=BINARY, instances=BINARY)] * 2, "native")
    (line,) = said(capsys)
    assert "protocols paper, dinosaur and spot left out" in line
    assert "no object in 2 of 2 images (label maps): all foreground is void (255)" in line
    found.add([0, 1], [TWO] * 2, name="truth")
    assert set(found.metrics(["name"])["protocol"]) == {"boxes", "single"}


BOXES = {
    "from 0 to 1": ([(0.2, 0.1, 0.45, 0.4)], "boxes of less than a pixel in 2 of 2 images"),
    "of no size": ([(9, 0.5, 18, 0.9), *SCENE["boxes"]], "boxes of less than a pixel in 2 of 2"),
    "from 0 to 1000": ([(225, 133, 450, 433)], "boxes outside of the photograph in 2 of 2 images"),
    "of a photograph twice as large": ([(46, 26, 68, 48)], "boxes outside of the photograph in 2"),
    "left of it": ([(-20, 4, 18, 13)], "boxes outside of the photograph in 2 of 2 images"),
}


@pytest.mark.faults
@pytest.mark.parametrize("geometry", ["squash", "native"])
@pytest.mark.parametrize("what", BOXES)
def test_boxes_that_do_not_lie_in_their_photograph_are_counted(tmp_path, capsys, geometry, what):
    boxes, expected = BOXES[what]
    try:
        scorer(tmp_path, [without(boxes=boxes)] * 2, geometry)
    except InputError as error:  # where all of them lie outside
        assert "no object in 2 of 2 images (boxes)" in str(error)
    (line, *_) = said(capsys)
    assert expected in line and "such as im0" in line
    assert ("from 0 to 1?" in line) == (what in ("from 0 to 1", "of no size"))


ODD = {
    "no background": (
        without(classes=TWO + np.uint8(1)),
        "no background (0) in any of 2 class label maps",
    ),
    "a single class": (
        without(classes=label_map(ground=3), instances=label_map(ground=1)),
        "no background (0) in any of 2 class label maps",
    ),
    "a single instance": (
        without(instances=(TWO > 0).astype(np.uint8)),
        "a single instance in each of 2 images; if there are more, number them 1, 2, …",
    ),
    "boxes of other objects": (
        without(boxes=[(22, 13, 45, 43)]),
        "in 2 of 2 images no box fits an object of the instance label maps",
    ),
    "instances of other images": (
        without(instances=TWO[::-1, ::-1].copy()),
        "class and instance label maps contradict each other in 2 of 2 images",
    ),
}


@pytest.mark.faults
@pytest.mark.parametrize("what", ODD)
def test_odd_label_maps_are_counted(tmp_path, capsys, what):
    labels, expected = ODD[what]
    scorer(tmp_path, [labels] * 2, "native" if "boxes" in what else "crop")
    assert any(expected in line for line in said(capsys))


def test_a_notice_is_given_once(tmp_path, capsys):
    for _ in range(2):
        scorer(tmp_path, [without("instances")])
    assert len(said(capsys)) == 1


def predictions(root, number):
    """Label maps that are the truth of SCENE, and options to score them."""
    folder = root / "pred"
    folder.mkdir()
    for index in range(number):
        Image.fromarray(TWO).save(folder / f"im{index}.png")
    config = root / "own.yaml"
    config.write_text("dataset: {name: mine}\nbackbone: {image_size: 32}\n")
    options = ("--predictions", folder, "--name", "own", "--data", root / "data")
    return (*options, "--config", config, "--results", root / "results")


@pytest.mark.faults
def test_the_advice_for_binary_masks_works(tmp_path, mmqsa):
    options = predictions(tmp_path, 2)
    write(tmp_path / "data", [{"classes": BINARY}] * 2)
    code, out, err = mmqsa("score", *options)
    assert code == 2 and not out and "label objects 1, 2, …" in err
    assert not (tmp_path / "results").exists()
    write(tmp_path / "data", [{"classes": TWO}] * 2)
    code, out, err = mmqsa("score", *options, "--no-controls")
    assert not code and "protocol dinosaur left out" in err
    assert "dinosaur" not in out and "| paper | mBO^c | 100.0 |" in " ".join(out.split())
    code, _, err = mmqsa("score", *options, "--protocol", "dinosaur")
    assert (
        code == 2 and "--protocol dinosaur: " in err and "expected paper or single or spot" in err
    )


@pytest.mark.faults
@pytest.mark.parametrize("geometry", ["squash", "native"])
def test_the_advice_for_boxes_alone_works(tmp_path, mmqsa, geometry):
    options = (*predictions(tmp_path, 2), "--split", "detection-val")
    write(tmp_path / "data", [{"boxes": SCENE["boxes"]}] * 2)
    code, _, err = mmqsa("score", *options)
    assert code == 2 and "use --geometry squash or native" in err
    code, out, err = mmqsa("score", *options, "--geometry", geometry, "--protocol", "boxes")
    assert not code and "| boxes | CorLoc | 100.0 |" in " ".join(out.split())
    assert ("label maps" in err) == (geometry == "native")


@pytest.mark.faults
@pytest.mark.parametrize("variant", ["squash", "native"])
def test_the_advice_for_a_cache_of_boxes_alone_works(tmp_path, mmqsa, config, variant):
    write(tmp_path / "data", [{"boxes": SCENE["boxes"]}] * 2)
    path, results = tmp_path / "config.yaml", tmp_path / "results"
    own = config.model_dump(include={"dataset", "backbone"})
    path.write_text(dump_yaml(own | {"device": "cpu"}))
    options = ("--config", path, "--data", tmp_path / "data", "--split", "detection-val", "--out")
    assert not mmqsa("extract", *options, tmp_path / "crop.h5")[0]
    code, _, err = mmqsa("controls", "--features", tmp_path / "crop.h5", "--out", results)
    assert code == 2 and "its boxes are enough for another geometry: extract with --variant" in err
    assert not mmqsa("extract", *options, tmp_path / "other.h5", "--variant", variant)[0]
    code, _, err = mmqsa("controls", "--features", tmp_path / "other.h5", "--out", results)
    assert not code
    (written,) = results.glob("*controls.csv")
    assert "boxes,corloc" in written.read_text()


@pytest.mark.faults
@pytest.mark.parametrize("geometry, kind", [("squash", "boxes"), ("released", "classes")])
def test_the_advice_to_take_another_geometry_works(tmp_path, geometry, kind):
    with pytest.raises(InputError, match=r"another geometry \(crop\)"):
        scorer(tmp_path, [without(kind)] * 2, geometry)
    assert scorer(tmp_path, [without(kind)] * 2, "crop").protocols
    others = {"boxes": ("classes", "instances"), "classes": ("instances",)}[kind]
    with pytest.raises(InputError) as refused:
        scorer(tmp_path / "without", [without(kind, *others)] * 2, geometry)
    assert "(crop)" not in str(refused.value)


@pytest.mark.faults
def test_every_stage_that_scores_refuses_labels_without_an_object(
    tmp_path, own_voc, caches, run_folder, config
):
    for path in own_voc.glob("Segmentation*/*.png"):
        labels = np.array(Image.open(path))
        Image.fromarray(np.where(labels, 255, 0).astype(np.uint8)).save(path)
    extract(VocFolder.find(own_voc), "val", config, tmp_path / "val.h5", CPU)
    cache, train, out = FeatureCache(tmp_path / "val.h5"), FeatureCache(caches["train"]), tmp_path
    run, outputs = Run.load(run_folder), set(tmp_path.iterdir())
    for stage in (
        lambda: evaluate(run, cache, config, out, CPU),
        lambda: sweep(run, cache, config, out, CPU),
        lambda: score_snapshots(run_folder, cache, config, out, CPU),
        lambda: score_controls(cache, out, train),
        lambda: score_baseline("kmeans", cache, train, config, out),
        lambda: score_baseline("probe", train, cache, config, out),
        lambda: measure_premise(cache, train),
    ):
        with pytest.raises(InputError, match=r"val.h5: no object in (2 of 2 images|any image) "):
            stage()
    assert set(tmp_path.iterdir()) == outputs


@pytest.mark.faults
def test_fixed_boxes_without_objects_to_fit_to_are_left_out_with_a_word(tmp_path, mmqsa):
    options = (*predictions(tmp_path, 1), "--train", "train")
    write(tmp_path / "data", [SCENE, without(classes=EMPTY)])
    lists = tmp_path / "data/ImageSets/Segmentation"
    for split, name in (("val", "im0"), ("train", "im1")):
        (lists / f"{split}.txt").write_text(name)
    code, _, err = mmqsa("score", *options)
    assert not code and "no object in any image to fit fixed boxes to" in err


@pytest.mark.faults
def test_coco_without_annotations_is_refused(tmp_path, mmqsa):
    options = predictions(tmp_path, 1)
    data = tmp_path / "data"
    for name in ("annotations", "val2017"):
        (data / name).mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(data / "val2017/im0.jpg")
    images = [{"id": 1, "file_name": "im0.jpg", "width": WIDTH, "height": HEIGHT}]
    content = {"images": images, "annotations": [], "categories": [{"id": 1}]}
    (data / "annotations/instances_val2017.json").write_text(json.dumps(content))
    (tmp_path / "own.yaml").write_text("dataset: {name: mine, kind: coco}\n")
    for geometry in ("crop", "squash", "native"):
        code, _, err = mmqsa("score", *options, "--geometry", geometry)
        assert code == 2 and "no object in 1 of 1 images" in err

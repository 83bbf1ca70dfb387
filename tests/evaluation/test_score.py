"""Predictions of other code get the scores that the pipeline gives to the same label maps."""

import json
import re
import shlex
import shutil
import sys
from html import unescape
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import from_environment
from PIL import Image
from pycocotools import mask as run_lengths

from mmqsa.cli.entry import main
from mmqsa.config.evaluation import ControlsConfig
from mmqsa.config.methods import read_methods
from mmqsa.config.workflow import Config
from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError
from mmqsa.evaluation.baselines import score_baseline
from mmqsa.evaluation.boxes import slot_extents
from mmqsa.evaluation.controls import fixed_controls, score_controls
from mmqsa.evaluation.label_map_file import LabelMaps
from mmqsa.evaluation.label_maps import baseline_label_maps
from mmqsa.evaluation.labelled_images import LabelledFolder
from mmqsa.evaluation.metrics import PROTOCOLS
from mmqsa.evaluation.prediction_files import open_predictions
from mmqsa.evaluation.score import method_record, score_predictions
from mmqsa.evaluation.scoring import Scorer
from mmqsa.features.cache import FeatureCache
from mmqsa.page.spec import page_spec
from mmqsa.paths import Paths
from mmqsa.reporting.image_sets import image_sets
from mmqsa.reporting.metrics_file import REFERENCE, read_table
from mmqsa.reporting.results import table_spec

KMEANS, SIDE = "k-means, K = 4", 96
FIXTURES = Path(__file__).parent / "fixtures"
ROOT = Path(__file__).parents[2]


def folder(root, split="val", geometry="crop", side=SIDE):
    return LabelledFolder(VocFolder.find(root), split, "scenes", geometry, side)


@pytest.fixture(scope="module")
def kmeans(tmp_path_factory, caches, config):
    """k-means' label maps (N, S, S), by image id, and the folder of its scores."""
    out, cache = tmp_path_factory.mktemp("kmeans"), FeatureCache(caches["val"])
    train = FeatureCache(caches["train"])
    one = config.changed("test", {"evaluation": {"seeds": [0]}})
    maps = LabelMaps(baseline_label_maps("kmeans", cache, train, one, out))
    score_baseline("kmeans", cache, train, one, out)
    return dict(zip(maps.ids, maps.arrays[KMEANS][:], strict=True)), out, maps.path


@pytest.fixture(scope="module")
def whole(kmeans, voc_root):
    """The same at the size of their photographs: what the crop does not see is slot 0."""
    voc, maps = VocFolder.find(voc_root), {}
    for image_id, square in kmeans[0].items():
        width, height = voc.image(image_id).size  # the shorter side has SIDE px
        left, top = (width - SIDE) // 2, (height - SIDE) // 2
        maps[image_id] = np.zeros((height, width), np.uint8)
        maps[image_id][top : top + SIDE, left : left + SIDE] = square
    return maps


def write_png(path, maps):
    path.mkdir()
    for image_id, labels in maps.items():
        Image.fromarray(labels).save(path / f"{image_id}.png")
    return path


def write_coco(path, maps):
    entries = []
    for image_id, labels in maps.items():
        for slot in np.unique(labels):
            runs = run_lengths.encode(np.asfortranarray(labels == slot, dtype=np.uint8))
            shape = {"size": list(labels.shape), "counts": runs["counts"].decode()}
            entries.append({"image_id": image_id, "segmentation": shape, "category_id": 1})
    path.write_text(json.dumps(entries))
    return path


def write_h5(path, maps):
    with h5py.File(path, "w") as file:
        for image_id, labels in maps.items():
            file[image_id] = labels
    return path


def score(labels, tmp_path, *paths, name="other", frame="photograph", array=None, **more):
    """Scores of predictions, without controls, below tmp_path."""
    results = Paths(tmp_path / "results")
    record = method_record(results, name, title=more.pop("title", None))
    opened = [open_predictions(path, labels.ids, array) for path in paths]
    return score_predictions(labels, opened, record, results, frame, **more)


def same_scores(found, of_kmeans):
    """All three metrics files hold what the pipeline's do, but for names."""
    for kind in ("", "-per_image", "-per_object"):
        suffix = f"{kind}.csv.gz" if kind else ".csv"
        theirs = pd.read_csv(of_kmeans / f"scenes-val-kmeans{suffix}").query("name == @KMEANS")
        ours = pd.read_csv(found.files[0].with_name(found.files[0].stem + suffix))
        names = ["name", "num_slots"]
        pd.testing.assert_frame_equal(
            ours.drop(columns=names), theirs.drop(columns=names).reset_index(drop=True)
        )


@pytest.mark.parametrize("write", [write_png, write_h5, write_coco])
def test_each_format_of_whole_photographs(tmp_path, voc_root, kmeans, whole, write):
    path = write(tmp_path / f"p{ {write_h5: '.h5', write_coco: '.json'}.get(write, '') }", whole)
    found = score(folder(voc_root), tmp_path, path, title="k-means of other code")
    same_scores(found, kmeans[1])
    assert found.num_images == 6 and found.num_slots == 4
    maps = LabelMaps(found.files[2])
    assert found.files[2].name == "scenes-val-label_maps.h5"
    assert maps.names == ["prediction"] and maps.ids == list(kmeans[0])
    first = maps.ids[0]
    np.testing.assert_array_equal(maps.arrays["prediction"][0], kmeans[0][first])


@pytest.mark.parametrize("of_cache", [False, True])
def test_central_squares_on_a_folder_or_a_cache(tmp_path, voc_root, caches, kmeans, of_cache):
    labels = FeatureCache(caches["val"]) if of_cache else folder(voc_root)
    found = score(labels, tmp_path, kmeans[2], frame="square", array=KMEANS)
    same_scores(found, kmeans[1])
    larger = {name: labels.repeat(3, 0).repeat(3, 1) for name, labels in kmeans[0].items()}
    path = write_png(tmp_path / "larger", larger)
    same_scores(score(labels, tmp_path, path, name="larger", frame="square"), kmeans[1])


def test_whole_photographs_of_another_size(tmp_path, voc_root, caches, kmeans, whole):
    """Enlarged; and squashed to one size for all, twice theirs in height and thrice in width."""
    labels = folder(voc_root)
    twice = {name: labels.repeat(2, 0).repeat(2, 1) for name, labels in whole.items()}
    path = write_png(tmp_path / "twice", twice)
    same_scores(score(labels, tmp_path, path, name="twice"), kmeans[1])
    squashed = {name: labels.repeat(2, 0).repeat(3, 1) for name, labels in whole.items()}
    path = write_png(tmp_path / "squashed", squashed)
    same_scores(score(labels, tmp_path, path, name="squashed", frame="squashed"), kmeans[1])
    with pytest.raises(InputError, match="another aspect ratio; use --frame squashed"):
        score(labels, tmp_path, path)


@pytest.mark.parametrize("geometry", ["crop", "squash", "released", "native"])
def test_the_labels_themselves_are_perfect(tmp_path, voc_root, geometry):
    labels, voc = folder(voc_root, "detection-val", geometry), VocFolder.find(voc_root)
    maps, boxes = {}, []
    for image_id in labels.ids:
        size = voc.image(image_id).size
        maps[image_id] = voc.instances(image_id, size)
        for x0, y0, x1, y1 in voc.boxes(image_id).tolist():
            boxes.append({"image_id": image_id, "bbox": [x0, y0, x1 - x0, y1 - y0]})
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    found = score(labels, tmp_path, write_png(tmp_path / "maps", maps))
    values = {(row.protocol, row.metric): row.mean for row in found.rows}
    if geometry in ("crop", "native"):
        assert {values["dinosaur", name] for name in ("mbo_i", "miou", "fg_ari")} == {100}
    own = score(labels, tmp_path, tmp_path / "boxes.json", name="boxes")
    if geometry in ("squash", "native"):
        hits = {row.metric: row.mean for row in own.rows if row.protocol == "boxes"}
        assert set(hits) == set(PROTOCOLS["boxes"]) and set(hits.values()) == {100}


def test_native_scores_are_those_of_a_plain_loop(tmp_path, voc_root, whole):
    """mBO^c, mBO^i, CorLoc of annotated boxes, and mIoU of one slot, on whole photographs."""
    voc, labels = VocFolder.find(voc_root), folder(voc_root, geometry="native")
    found = score(labels, tmp_path, write_png(tmp_path / "maps", whole))
    values = {(row.protocol, row.metric): row.mean for row in found.rows}
    plain = {"mbo_c": [], "mbo_i": [], "corloc": []}
    for image_id, predicted in whole.items():
        size = voc.image(image_id).size
        slots = [predicted == slot for slot in np.unique(predicted)]
        for metric, truth in (("mbo_c", voc.classes), ("mbo_i", voc.instances)):
            true, best = truth(image_id, size), []
            valid = true != 255
            for label in np.unique(true[valid & (true > 0)]):
                inside = true == label
                overlaps = [
                    (inside & slot).sum() / ((inside | slot) & valid).sum() for slot in slots
                ]
                best.append(max(overlaps))
            plain[metric].append(np.mean(best))
        hits = []
        for slot, (x0, y0, x1, y1) in product(slots, voc.boxes(image_id)):
            rows, columns = np.nonzero(slot)
            own = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            width = min(x1, own[2]) - max(x0, own[0])
            height = min(y1, own[3]) - max(y0, own[1])
            both = max(width, 0) * max(height, 0)
            area = (own[2] - own[0]) * (own[3] - own[1])
            hits.append(both / (area + (x1 - x0) * (y1 - y0) - both) > 0.5)
        plain["corloc"].append(any(hits))
    for name, (protocol, metric) in {
        "mbo_c": ("paper", "mbo_c"),
        "mbo_i": ("dinosaur", "mbo_i"),
        "corloc": ("boxes", "corloc"),
    }.items():
        assert values[protocol, metric] == pytest.approx(100 * np.mean(plain[name]), abs=1e-3)
    assert found.image_set == "scenes-val-native"
    assert not list((tmp_path / "results").rglob("*.h5"))  # the page shows squares


def test_native_boxes_are_scored_as_squashed_ones(tmp_path, voc_root):
    """The same up to rounding: IoU does not change when an axis is scaled."""
    voc = VocFolder.find(voc_root)
    rng = np.random.default_rng(0)
    entries = []
    for image_id in voc.ids("detection-val"):
        for x0, y0, x1, y1 in voc.boxes(image_id) + rng.uniform(-9, 9, (1, 4)):
            entries.append({"image_id": image_id, "bbox": [x0, y0, x1 - x0, y1 - y0]})
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    native, squash = (
        score(folder(voc_root, "detection-val", kind), tmp_path, tmp_path / "boxes.json").rows
        for kind in ("native", "squash")
    )
    of_boxes = [row for row in native if row.protocol == "boxes"]
    assert of_boxes == [row for row in squash if row.protocol == "boxes"]
    assert of_boxes[0].mean > 0


@pytest.mark.parametrize("geometry", ["crop", "squash", "native"])
def test_boxes_in_px_of_an_image_of_another_size(tmp_path, voc_root, geometry):
    """Of photographs twice as large, and of central squares half as large."""
    voc, labels = VocFolder.find(voc_root), folder(voc_root, "detection-val", geometry)
    data = {"images": [], "annotations": []}
    for number, image_id in enumerate(labels.ids):
        if geometry == "crop":
            width = height = SIDE // 2
            boxes = labels.boxes[number] / 2
        else:
            width, height = (2 * length for length in voc.image(image_id).size)
            boxes = voc.boxes(image_id) * 2
        image = {"id": number, "file_name": image_id, "width": width, "height": height}
        data["images"].append(image)
        for x0, y0, x1, y1 in boxes.tolist():
            box = {"image_id": number, "bbox": [x0, y0, x1 - x0, y1 - y0]}
            data["annotations"].append(box)
    (tmp_path / "boxes.json").write_text(json.dumps(data))
    frame = "square" if geometry == "crop" else "photograph"
    found = score(labels, tmp_path, tmp_path / "boxes.json", frame=frame)
    protocol = "paper" if geometry == "crop" else "boxes"
    values = {row.metric: row.mean for row in found.rows if row.protocol == protocol}
    assert values["corloc"] == 100


def test_the_extents_of_many_slots_are_those_of_a_plain_loop():
    """Slots without a valid pixel have none: what is said of them means nothing."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 90, (40, 6)).astype(np.uint8).repeat(5, 1)
    valid = rng.random(labels.shape) < 0.5
    for inside in (valid, None):
        found = slot_extents(labels, inside)
        assert len(found) == labels.max() + 1
        for slot in range(len(found)):
            rows, columns = np.nonzero((labels == slot) & (inside is None or inside))
            if len(rows):
                own = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert found[slot].tolist() == own


def test_more_slots_than_an_integer_has_bits(tmp_path, voc_root):
    """90 slots, each some columns of pixels."""
    labels, voc = folder(voc_root, geometry="native"), VocFolder.find(voc_root)
    maps = {}
    for image_id in labels.ids:
        width, height = voc.image(image_id).size
        maps[image_id] = np.tile(np.arange(width) * 90 // width, (height, 1)).astype(np.uint8)
    found = score(labels, tmp_path, write_png(tmp_path / "maps", maps))
    assert found.num_slots == 90
    hits = {row.metric: row.mean for row in found.rows if row.protocol == "boxes"}
    assert hits["corloc"] == 0  # a column of a pixel or two is no object


def test_seeds_of_one_method(tmp_path, voc_root, kmeans, whole):
    first = write_png(tmp_path / "first", whole)
    second = write_png(tmp_path / "second", {name: labels // 2 for name, labels in whole.items()})
    found = score(folder(voc_root), tmp_path, first, second)
    table = pd.read_csv(found.files[0])
    assert table.groupby("eval_seed").size().tolist() == [len(found.rows)] * 2
    alone = [
        score(folder(voc_root), tmp_path / name, tmp_path / name).rows
        for name in ("first", "second")
    ]
    for row, *single in zip(found.rows, *alone, strict=True):
        values = [one.mean for one in single]
        assert row.values == values
        assert row.sd == pytest.approx(np.std(values, ddof=1)) and row.mean == np.mean(values)
    objects = read_table(found.files[0].with_name("scenes-val-per_object.csv.gz"), "per_object")
    assert set(objects["eval_seed"]) == {0}
    maps = LabelMaps(found.files[2])
    np.testing.assert_array_equal(maps.arrays["prediction"][0], kmeans[0][maps.ids[0]])


def test_controls_are_scored_once_and_the_best_is_beside(tmp_path, voc_root, whole):
    path, labels = write_png(tmp_path / "maps", whole), folder(voc_root)
    config = ControlsConfig.load().changed("test", {"evaluation": {"seeds": [0, 1]}})
    found = score(labels, tmp_path, path, controls=config, train=folder(voc_root, "train"))
    controls = tmp_path / "results/controls/scenes-val-controls.csv"
    expected = score_controls(labels, tmp_path, folder(voc_root, "train"), 7, [0, 1])
    assert controls in found.files and controls.read_bytes() == expected.read_bytes()
    table = pd.read_csv(controls).groupby(["protocol", "metric", "name"])["value"].mean()
    for row in found.rows:
        of_metric = table[row.protocol, row.metric]
        assert row.control_value == of_metric.max() == of_metric[row.control]
    assert "best control" in found.text() and "| centre square" in found.text()
    again = score(labels, tmp_path, path, name="again", controls=config)  # as they are there
    assert again.rows == found.rows and controls not in again.files
    one_split = score(labels, tmp_path, path, name="without")
    assert one_split.rows[0].control is None


def test_scoring_again_changes_nothing(tmp_path, voc_root, whole):
    path = write_png(tmp_path / "maps", whole)
    found = score(folder(voc_root), tmp_path, path, title="One")
    before = {one: one.read_bytes() for one in (tmp_path / "results").rglob("*.*")}
    assert score(folder(voc_root), tmp_path, path) == found  # its title is in the record
    assert {one: one.read_bytes() for one in (tmp_path / "results").rglob("*.*")} == before


@pytest.mark.faults
def test_other_results_of_that_name_stay(tmp_path, voc_root, whole):
    path = write_png(tmp_path / "maps", whole)
    score(folder(voc_root), tmp_path, path)
    before = {one: one.read_bytes() for one in (tmp_path / "results").rglob("*.*")}
    other = write_png(tmp_path / "others", {name: labels * 0 for name, labels in whole.items()})
    said = r"--name other: .*scores of other predictions .*; remove scenes-val\* there, or ch"
    with pytest.raises(InputError, match=said):
        score(folder(voc_root), tmp_path, other)
    assert {one: one.read_bytes() for one in (tmp_path / "results").rglob("*.*")} == before


@pytest.mark.faults
def test_a_record_that_says_otherwise_stays(tmp_path, voc_root, whole):
    results = Paths(tmp_path / "results")
    score(folder(voc_root), tmp_path, write_png(tmp_path / "maps", whole), title="One")
    assert read_methods(results)["other"].title == "One"
    assert method_record(results, "other") == method_record(results, "other", title="One")
    with pytest.raises(InputError, match=r"title: is 'One', not 'Two'; edit that file"):
        method_record(results, "other", title="Two")
    with pytest.raises(InputError, match=r"kind: is 'method', not 'supervised'.*out --supervised"):
        method_record(results, "other", kind="supervised")
    with pytest.raises(InputError, match="--title 'One': is that of other; choose another"):
        method_record(results, "second", title="One")
    with pytest.raises(InputError, match="--name kmeans: name: 'kmeans' is a method of mmqsa"):
        method_record(results, "kmeans")
    with pytest.raises(InputError, match=r"--name a: colour: String should match.*'red'"):
        method_record(results, "a", colour="red")
    with pytest.raises(InputError, match=r"--name spot.yaml: name: 'spot.yaml' ends in .yaml"):
        method_record(results, "spot.yaml")


@pytest.mark.faults
def test_a_frame_that_does_not_fit(tmp_path, voc_root, caches, kmeans, whole):
    squares, photographs = write_png(tmp_path / "s", kmeans[0]), write_png(tmp_path / "p", whole)
    labels, cache = folder(voc_root), FeatureCache(caches["val"])
    said = "96x96 px, but its photograph has .*use --frame square if it covers the central square, "
    with pytest.raises(InputError, match=said + "squashed if it covers the whole"):
        score(labels, tmp_path, squares)
    with pytest.raises(InputError, match=r"which is no square .its photograph has .*photograph$"):
        score(labels, tmp_path, photographs, frame="square")
    with pytest.raises(InputError, match="all label maps are squares; use --frame square"):
        score(cache, tmp_path, squares)
    with pytest.raises(InputError, match="not say the photographs' aspect ratios; give --data"):
        score(cache, tmp_path, squares, frame="squashed")
    with pytest.raises(InputError, match="--geometry native cover the whole photograph"):
        score(folder(voc_root, geometry="native"), tmp_path, squares, frame="square")
    assert not (tmp_path / "results").exists()


@pytest.mark.faults
def test_controls_of_other_images_are_refused(tmp_path, voc_root, whole, own_voc):
    controls = tmp_path / "results/controls"
    score_controls(folder(own_voc), controls)
    path = write_png(tmp_path / "maps", whole)
    with pytest.raises(InputError, match=r"of other images than .*choose another --results"):
        score(folder(voc_root), tmp_path, path, controls=ControlsConfig.load())


def test_a_map_that_is_no_square_is_none_on_a_cache_either(tmp_path, caches, kmeans):
    maps = {name: labels[:, :-8] for name, labels in kmeans[0].items()}
    with pytest.raises(InputError, match=r"88x96 px, which is no square"):
        score(
            FeatureCache(caches["val"]), tmp_path, write_png(tmp_path / "p", maps), frame="square"
        )


def test_the_same_predictions_are_no_two_seeds(tmp_path, voc_root, whole):
    path = write_png(tmp_path / "p", whole)
    with pytest.raises(InputError, match="the same predictions as"):
        score(folder(voc_root), tmp_path, path, path)


def test_a_picture_is_noticed(tmp_path, voc_root, whole, capsys):
    drawn = {name: np.arange(m.size, dtype=np.uint8).reshape(m.shape) for name, m in whole.items()}
    with pytest.raises(InputError, match="more than 255 slots"):
        score(folder(voc_root), tmp_path, write_png(tmp_path / "p", drawn))
    fewer = {name: labels // 4 for name, labels in drawn.items()}
    score(folder(voc_root), tmp_path, write_png(tmp_path / "q", fewer))
    assert "up to 64 slots in an image; is it a picture" in capsys.readouterr().err


def test_controls_of_other_labels_are_refused(tmp_path, voc_root, whole, config):
    path, labels = write_png(tmp_path / "p", whole), folder(voc_root)
    score(labels, tmp_path, path, controls=config)
    objects = tmp_path / "results/controls/scenes-val-controls-per_object.csv.gz"
    table, metrics = pd.read_csv(objects), objects.with_name("scenes-val-controls.csv")
    table.assign(share=table["share"] / 2).to_csv(objects, index=False)
    score(labels, tmp_path, path, name="same", controls=config)  # by the digest of the labels
    for written in (metrics, objects.parents[1] / "methods/same/scenes-val.csv"):
        old = pd.read_csv(written).drop(columns="labels_sha256")  # as an earlier version wrote it
        old.to_csv(written, index=False)
    with pytest.raises(InputError, match=r"on other labels of these images .objects."):
        score(labels, tmp_path, path, name="second", controls=config)


def test_controls_without_the_fixed_boxes_that_are_asked_for(tmp_path, voc_root, whole, config):
    path, train = write_png(tmp_path / "p", whole), folder(voc_root, "train")
    score(folder(voc_root), tmp_path, path, controls=config)
    with pytest.raises(InputError, match=r"scenes-val-controls.csv: has no fixed boxes"):
        score(folder(voc_root), tmp_path, path, controls=config, train=train)


def commands_of_the_tutorial():
    """The commands of docs/score.md that are about the fixture."""
    text = (ROOT / "docs/score.md").read_text().replace("\\\n", " ")
    found = re.findall(r"^    mmqsa (.*fixtures/cutler.*)$", text, re.MULTILINE)
    return [shlex.split(line) for line in found]


def test_the_tutorial(tmp_path, monkeypatch, mmqsa):
    """Its commands run as they stand there, and print the table that it shows."""
    scenes, first, *others = commands_of_the_tutorial()
    (tmp_path / "tests/evaluation").mkdir(parents=True)
    (tmp_path / "tests/evaluation/fixtures").symlink_to(FIXTURES)
    monkeypatch.chdir(tmp_path)
    assert not mmqsa(*scenes)[0]
    code, out, err = mmqsa(*first)
    assert not code, err
    shown = (ROOT / "docs/score.md").read_text()
    table = [line for line in out.splitlines() if line.startswith("|")]
    assert len(table) > 5 and all(line in shown for line in table)
    assert len(others) == 1
    code, out, err = mmqsa(*others[0])
    assert not code and "CorLoc (one box, ≥)" in out, err


def test_the_command_prints_json_alone(tmp_path, voc_root, whole, mmqsa):
    config = tmp_path / "config.yaml"
    config.write_text("dataset: {name: scenes, kind: scenes}\nbackbone: {image_size: 96}\n")
    options = ["--predictions", write_png(tmp_path / "maps", whole), "--name", "spot"]
    options += ["--data", voc_root, "--results", tmp_path / "results", "--config", config]
    options += ["--title", "SPOT", "--source", "made", "--colour", "#aa3377", "--supervised"]
    code, out, _ = mmqsa("score", *options, "--json", "--protocol", "dinosaur", "--no-controls")
    data = json.loads(out)
    assert not code
    assert data["title"] == "SPOT" and data["kind"] == "supervised" and data["colour"] == "#aa3377"
    assert data["image_set"] == "scenes-val" and data["num_slots"] == 4
    assert {row["metric"] for row in data["metrics"]} == set(PROTOCOLS["dinosaur"])
    table = read_table(Path(data["files"][0]), "", REFERENCE).set_index(["protocol", "metric"])
    for row in data["metrics"]:
        value = table.loc["dinosaur", row["metric"]]["value"]
        assert row["mean"] == value == row["values"][0]
    assert read_methods(Paths(tmp_path / "results"))["spot"].source == "made"


THREE = {"one": "SPOT w/o refinement", "two": r"a|b \"c\" 'd' $e_ **\\f [g] <b>h", "three": "."}


@pytest.fixture(scope="module")
def three_methods(tmp_path_factory, voc_root, whole):
    """A results folder with three methods, scored by the command on squares of many pixels."""
    root = tmp_path_factory.mktemp("three")
    config = root / "config.yaml"
    config.write_text("dataset: {name: scenes, kind: scenes}\nbackbone: {image_size: 320}\n")
    for cut, (name, title) in enumerate(THREE.items(), 1):
        maps = write_png(root / name, {key: labels // cut for key, labels in whole.items()})
        words = ["score", "--predictions", maps, "--name", name, "--title", title]
        words += ["--data", voc_root, "--config", config, "--results", root / "results"]
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setattr(sys, "argv", ["mmqsa", *map(str, words)])
            main()
        assert not ended.value.code, name
    return Paths(root / "results")


def test_three_methods_in_one_folder(three_methods, tmp_path, mmqsa):
    """Leaderboard, table and page of methods whose titles hold all that a title may."""
    results = three_methods.results
    code, out, err = mmqsa("leaderboard", "--results", results, "--json")
    assert not code, err
    board = {row["label"]: row["mean"] for row in json.loads(out)["rows"]}
    assert set(THREE.values()) <= set(board)
    shares = pd.read_csv(three_methods.method("scenes-val", "one", "per_object"))["share"]
    assert (shares.round(4) != shares).any()  # or the csv would hold all digits
    config = Config.load(ROOT / "config.yaml", ROOT / "config/tables.yaml").changed(
        "test",
        {
            "dataset": {"kind": "scenes", "name": "scenes"},
            "other_datasets": {"scenes": None},
            "printed": ["summary", "leaderboard"],
            "grid": ["full"],
        },
    )
    for name in config.tables:
        path = tmp_path / f"{name}.yaml"
        path.write_text(table_spec(config, name))
        for words in (["table", path], ["figure", "metrics", path]):
            code, _, err = mmqsa(*words, "--results", results)
            assert not code, err
    page = tmp_path / "page.yaml"
    page.write_text(page_spec(config))
    code, _, err = mmqsa("page", page, "--results", results)
    assert not code, err
    shown = unescape((results / "page/index.html").read_text())
    assert all(shown.count(f"</i>{title}<") + shown.count(f">{title}<") for title in THREE.values())


def test_a_title_is_edited_at_any_time(three_methods, tmp_path, voc_root, whole, mmqsa):
    """It changes labels, and no file of scores; the same predictions are scored again as before."""
    results = tmp_path / "results"
    shutil.copytree(three_methods.results, results)
    record = results / "methods/two.yaml"
    record.write_text(record.read_text().replace(r"a|b", "Another, / title of"))
    config = tmp_path / "config.yaml"
    config.write_text("dataset: {name: scenes, kind: scenes}\nbackbone: {image_size: 320}\n")
    maps = write_png(tmp_path / "two", {key: labels // 2 for key, labels in whole.items()})
    before = {path: path.read_bytes() for path in results.rglob("*.*") if path.is_file()}
    code, out, err = mmqsa(
        *("score", "--predictions", maps, "--name", "two", "--data", voc_root),
        *("--config", config, "--results", results),
    )
    assert not code and "Another, / title of" in out, err
    assert {p: p.read_bytes() for p in results.rglob("*.*") if p.is_file()} == before
    code, out, _ = mmqsa("leaderboard", "--results", results)
    assert not code and "Another, / title of" in out and r"| a\|b" not in out


def test_a_name_is_no_one_elses(tmp_path, voc_root, whole):
    """Names that end as files of controls and image sets do."""
    path, labels = write_png(tmp_path / "maps", whole), folder(voc_root)
    perfect = write_png(
        tmp_path / "perfect",
        {
            name: np.where((truth := labels.folder.classes(name, m.shape[::-1])) == 255, 0, truth)
            for name, m in whole.items()
        },
    )
    score(labels, tmp_path, path, controls=ControlsConfig.load())
    for name in ("native-controls", "squash-controls", "controls-per_image", "val", "other-kmeans"):
        score(labels, tmp_path, perfect, name=name)
    paths = Paths(tmp_path / "results")
    assert set(image_sets(paths)) == {"scenes-val"}
    found = score(labels, tmp_path, path, controls=ControlsConfig.load())
    of_controls = {row.control for row in found.rows}
    assert of_controls <= {*fixed_controls(SIDE), "random slots, K = 7"}


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["", "per_image", "per_object"])
def test_controls_that_are_missing_are_named_and_scored_again(
    tmp_path, voc_root, whole, mmqsa, capsys, kind
):
    path, labels = write_png(tmp_path / "maps", whole), folder(voc_root)
    score(labels, tmp_path, path, controls=ControlsConfig.load())
    paths = Paths(tmp_path / "results")
    gone = paths.reference("scenes-val", "controls", kind)
    before = gone.read_bytes()
    gone.unlink()
    if kind != "per_object":  # which no leaderboard reads
        code, _, err = mmqsa("leaderboard", "--results", paths.results)
        assert code == 2 and f"{gone}: missing, though " in err and err.count("\n") == 1
    score(labels, tmp_path, path, controls=ControlsConfig.load())
    assert f"{gone}: missing; the controls are scored again" in capsys.readouterr().err
    assert gone.read_bytes() == before
    assert not mmqsa("leaderboard", "--results", paths.results)[0]
    gone.unlink()
    train = folder(voc_root, "train")
    if kind != "":  # the means that are there have no fixed boxes
        with pytest.raises(InputError, match=r"some files are missing .* remove scenes-val-contr"):
            score(labels, tmp_path, path, controls=ControlsConfig.load(), train=train)


@pytest.mark.faults
def test_scores_where_an_earlier_version_kept_them(tmp_path, voc_root, whole, mmqsa):
    score(folder(voc_root), tmp_path, write_png(tmp_path / "maps", whole), name="one")
    paths = Paths(tmp_path / "results")
    record = (paths.methods / "one.yaml").read_text()
    (paths.methods / "old.yaml").write_text(record.replace("one", "old"))
    shutil.copy(paths.method("scenes-val", "one"), tmp_path / "scenes-val-old.csv")
    paths.reference("scenes-val", "old").parent.mkdir()
    shutil.move(tmp_path / "scenes-val-old.csv", paths.reference("scenes-val", "old"))
    code, out, err = mmqsa("leaderboard", "--results", paths.results)
    assert not code and "| one" in out and "run `mmqsa score --name old` again" in err


def test_labels_of_a_cache_and_of_its_folder_are_the_same(caches, voc_root):
    """To the bit, or scores of a run and of other code could not stand together."""
    cache, labels = FeatureCache(caches["val"]), folder(voc_root)
    assert Scorer(cache).labels_sha256 == Scorer(labels).labels_sha256
    assert Scorer(labels).labels_sha256 != Scorer(folder(voc_root, side=64)).labels_sha256


@pytest.mark.faults
def test_methods_of_one_folder_are_scored_at_one_size(tmp_path, voc_root, whole, mmqsa):
    write_png(tmp_path / "p", whole)
    config = tmp_path / "config.yaml"

    def scored(name, side):
        config.write_text(
            f"dataset: {{kind: scenes, name: scenes}}\nbackbone: {{image_size: {side}}}\n"
        )
        return mmqsa(
            *("score", "--predictions", tmp_path / "p", "--name", name, "--data", voc_root),
            *("--config", config, "--results", tmp_path / "r", "--no-controls"),
        )

    assert ": written;" in scored("one", 96)[1]
    assert "one is scored at 96 px, not 64" in scored("other", 64)[2]
    said = scored("one", 64)[2]
    assert "image_size: is 96, and labels are of 64 px here; give a --config with" in said
    assert "--name 'a/b': is part of file names; use letters" in scored("a/b", 96)[2]
    (tmp_path / "r/methods/one.yaml").unlink()
    code, _, said = mmqsa("leaderboard", "--results", tmp_path / "r")
    assert code == 2 and "one.yaml: missing, though" in said
    assert ": written;" in scored("one", 96)[1]
    assert not mmqsa("leaderboard", "--results", tmp_path / "r")[0]


def test_options_that_do_not_go_together(tmp_path, voc_root, caches, whole, mmqsa):
    base = ["score", "--predictions", write_png(tmp_path / "maps", whole), "--name", "spot"]
    base += ["--results", tmp_path / "results"]
    cache, data = ["--features", caches["val"]], ["--data", voc_root]
    for options, said in (
        ([], "--data, --features: give one of the two"),
        ([*cache, *data], "--data, --features: give one of the two"),
        ([*cache, "--geometry", "native"], "--geometry: a cache has its own"),
        ([*cache, "--split", "train"], "--split: a cache has its own"),
        ([*data, "--config", ROOT / "config/coco.yaml"], "is no data set of dataset.kind coco ("),
        ([*data, "--protocol", "boxes"], "--protocol boxes: expected one of paper, dinosaur"),
    ):
        code, _, err = mmqsa(*base, *options)
        assert code == 2 and said in err and err.count("\n") == 1
    assert not (tmp_path / "results").exists()


@pytest.mark.realdata
def test_real_photographs(tmp_path):
    """The labels themselves are perfect, at the photographs' size and in the crop."""
    voc = VocFolder.find(from_environment("MMQSA_VOC"))
    few = tmp_path / "VOC2012"
    (few / "ImageSets/Segmentation").mkdir(parents=True)
    for name in ("JPEGImages", "SegmentationClass"):
        (few / name).symlink_to((voc.path / name).resolve())
    ids = voc.ids("val")[:20]
    (few / "ImageSets/Segmentation/val.txt").write_text("\n".join(ids) + "\n")
    (tmp_path / "maps").mkdir()
    for image_id in ids:
        labels = Image.open(voc.path / f"SegmentationClass/{image_id}.png")
        labels.save(tmp_path / "maps" / f"{image_id}.png")  # a palette PNG with void, 255
    for geometry in ("crop", "native"):
        labels = folder(few, geometry=geometry, side=280)
        found = score(labels, tmp_path, tmp_path / "maps", name=geometry)
        values = {(row.protocol, row.metric): row.mean for row in found.rows}
        assert values["paper", "mbo_c"] == values["paper", "miou_with_background"] == 100

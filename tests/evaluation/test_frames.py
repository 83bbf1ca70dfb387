"""Predictions of photographs that EXIF turns; other frames are tested in test_score.py."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import CPU
from PIL import Image
from pycocotools import mask as run_lengths
from turned import TURNS, coco_of, extents, stored, write_turned, write_xml

from mmqsa.cli.entry import main
from mmqsa.data.geometry import Geometry
from mmqsa.data.upright import Upright
from mmqsa.data.voc import VocFolder
from mmqsa.discover import load
from mmqsa.discover.output import discover
from mmqsa.errors import InputError
from mmqsa.evaluation.frames import Placement
from mmqsa.evaluation.prediction_files import Prediction
from mmqsa.features.extract import extract

HEIGHT, WIDTH = 60, 80
QUARTERS = (5, 6, 7, 8)
RNG = np.random.default_rng(0)


def scene(number):
    """A photograph, and its two instances, which are not in the middle."""
    instances = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    instances[5:30, 12 + number : 50] = 1
    instances[38:56, 14:30] = 2
    pixels = RNG.integers(0, 99, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[instances > 0] += 120
    return pixels, instances


SCENES = {f"im{number}": scene(number) for number in range(2)}


def write_voc(root, orientation, drawn):
    """Photographs that EXIF turns, with labels that are ``drawn`` upright or on stored pixels."""
    for name in ("JPEGImages", "SegmentationClass", "SegmentationObject", "Annotations"):
        (root / name).mkdir(parents=True)
    for name in ("Segmentation", "Main"):
        (root / "ImageSets" / name).mkdir(parents=True)
        (root / f"ImageSets/{name}/val.txt").write_text("\n".join(SCENES))
    for name, (pixels, upright) in SCENES.items():
        write_turned(root / f"JPEGImages/{name}.jpg", pixels, orientation)
        instances = stored(upright, orientation) if drawn == "stored" else upright
        for kind in ("SegmentationClass", "SegmentationObject"):
            Image.fromarray(instances).save(root / kind / f"{name}.png")
        size = instances.shape[::-1]
        write_xml(root / f"Annotations/{name}.xml", extents(instances), size)
    return root


def write_predictions(path, orientation, drawn, scale=1):
    path.mkdir(parents=True)
    for name, (_, upright) in SCENES.items():
        labels = stored(upright, orientation) if drawn == "stored" else upright
        labels = labels.repeat(scale, 0).repeat(scale, 1)
        Image.fromarray(labels).save(path / f"{name}.png")
    return path


@pytest.fixture
def score(tmp_path, monkeypatch, capsys):
    """``score(data, predictions, …)``: every value by `mmqsa score`, and what it said."""

    def run(data, predictions, *options, of="--data"):
        kind = "coco" if (data / "annotations").is_dir() else "voc"
        text = f"backbone: {{image_size: 48}}\ndataset: {{kind: {kind}, name: own}}\n"
        (tmp_path / "own.yaml").write_text(text)
        results = tmp_path / f"results{len(list(tmp_path.iterdir()))}"
        command = ["mmqsa", "score", "--predictions", predictions, "--name", "own", of, data]
        command += ["--config", tmp_path / "own.yaml", "--results", results, "--no-controls"]
        monkeypatch.setattr(sys, "argv", list(map(str, [*command, *options])))
        try:
            main()
        except SystemExit as stopped:
            assert not stopped.code, capsys.readouterr().err
        (path,) = results.glob("methods/own/*.csv")
        return pd.read_csv(path)["value"].dropna(), capsys.readouterr().err

    return run


NATIVE = ("--geometry", "native", "--split", "detection-val")


@pytest.mark.parametrize("orientation", TURNS)
def test_perfect_label_maps_are_perfect(tmp_path, score, orientation):
    """Labels and predictions drawn on either side of the turn, as far as a size tells."""
    sides = ("upright", "stored") if orientation in QUARTERS else ("upright",)
    for side in sides:
        root = write_voc(tmp_path / side, orientation, side)
        for other in sides:
            maps = write_predictions(tmp_path / f"{side}-{other}", orientation, other, scale=2)
            values, said = score(root, maps, *NATIVE)
            assert len(values) > 15 and (values == 100).all()
            assert ("EXIF: for 2 of 2 photographs" in said) == (orientation in (2, 3, 4))
    assert (score(root, maps)[0] == 100).all()  # the central square


def coco_json(orientation, drawn, sized=True, shapes=True):
    """Masks and boxes as `mmqsa discover` writes them, on either side of the turn."""
    images, annotations = [], []
    for key, (name, (_, upright)) in enumerate(SCENES.items(), start=1):
        labels = stored(upright, orientation) if drawn == "stored" else upright
        size = {"height": labels.shape[0], "width": labels.shape[1]} if sized else {}
        images.append({"id": key, "file_name": f"/photos/{name}.jpg"} | size)
        for value, (x0, y0, x1, y1) in enumerate(extents(labels).tolist(), start=1):
            one = {"image_id": key, "bbox": [x0, y0, x1 - x0, y1 - y0], "category_id": 1}
            if shapes:
                runs = run_lengths.encode(np.asfortranarray(labels == value, dtype=np.uint8))
                counts = runs["counts"].decode()
                one["segmentation"] = {"size": list(labels.shape), "counts": counts}
            annotations.append(one)
    return {"images": images, "annotations": annotations}


@pytest.mark.parametrize("orientation", QUARTERS)
@pytest.mark.parametrize("drawn", ["upright", "stored"])
def test_boxes_and_masks_of_coco(tmp_path, score, orientation, drawn):
    root = write_voc(tmp_path / "voc", orientation, "upright")
    for shapes in (True, False):
        content = coco_json(orientation, drawn, shapes=shapes)
        (tmp_path / "own.json").write_text(json.dumps(content))
        values, said = score(root, tmp_path / "own.json", *NATIVE)
        assert (values == 100).all() and "EXIF" not in said


def test_predictions_whose_size_tells_nothing_are_noticed(tmp_path, score):
    """Once: boxes of an unknown size, and squashed maps; the labels' sizes tell."""
    root = write_voc(tmp_path / "voc", 6, "stored")
    (tmp_path / "own.json").write_text(json.dumps(coco_json(6, "upright", False, False)))
    squares = tmp_path / "squares"
    squares.mkdir()
    for name, (_, labels) in SCENES.items():
        Image.fromarray(labels).resize((480, 480), 0).save(squares / f"{name}.png")
    for options in ([tmp_path / "own.json"], [squares, "--frame", "squashed"]):
        values, said = score(root, *options, *NATIVE)
        assert said.count("EXIF: for 2 of 2 photographs, such as im0") == 1
        assert "whether predictions were drawn before or after" in said
        assert values.min() > 90


def test_squashed_maps_of_the_stored_size_are_turned(tmp_path, score):
    root = write_voc(tmp_path / "voc", 8, "upright")
    maps = write_predictions(tmp_path / "maps", 8, "stored")
    values, said = score(root, maps, *NATIVE, "--frame", "squashed")
    assert (values == 100).all() and "EXIF" not in said


def test_the_advice_on_labels_of_the_stored_pixels_works(tmp_path, score):
    """A half turn: without the tag the stored pixels are the photograph."""
    root = write_voc(tmp_path / "voc", 3, "stored")
    maps = write_predictions(tmp_path / "maps", 3, "stored")
    _, said = score(root, maps, *NATIVE)
    assert "take the EXIF orientation out" in said and "leave the pixels" in said
    for path in (root / "JPEGImages").iterdir():
        image = Image.open(path)
        del image.getexif()[274]
        image.save(path, "PNG", exif=image.getexif())
    values, said = score(root, maps, *NATIVE)
    assert (values == 100).all() and "EXIF" not in said
    assert np.array_equal(VocFolder(root).image("im0"), stored(SCENES["im0"][0], 3))


def test_a_map_on_its_side_is_never_called_squashed():
    place = Placement("photograph", Geometry("native", 1))
    lying, upright = Prediction(np.zeros((60, 80), np.uint8)), (60, 80)
    with pytest.raises(InputError, match=r"80x60 px, but .* 60x80: it lies on its side; turn it"):
        place(lying, Upright(upright), "a.png")
    turned = Prediction(np.rot90(lying.labels).copy())  # as the line says
    assert place(turned, Upright(upright), "a.png").labels.shape == (80, 60)
    assert place(lying, Upright(upright, 6), "a.png").labels.shape == (80, 60)


def test_a_cache_says_that_exif_turned_its_photographs(tmp_path, score, config):
    root = write_voc(tmp_path / "voc", 6, "stored")
    own = config.changed("test", {"backbone": {"image_size": 48}})
    extract(VocFolder(root), "val", own, tmp_path / "val.h5", CPU)
    maps = write_predictions(tmp_path / "maps", 6, "upright")
    values, said = score(tmp_path / "val.h5", maps, of="--features")
    assert (values == 100).all()
    assert "val.h5: EXIF turns 2 of 2 photographs" in said and "give --data" in said
    stored_maps = write_predictions(tmp_path / "stored", 6, "stored")
    assert (score(root, stored_maps)[0] == 100).all()  # as the line says


@pytest.mark.parametrize("orientation", [3, 6])
def test_what_discover_writes_is_taken(tmp_path, score, run_folder, orientation):
    """Its masks fit photographs that EXIF turns, in both of its formats, with the same scores."""
    root = write_voc(tmp_path / "voc", orientation, "upright")
    discover(load(run_folder, device="cpu"), [root / "JPEGImages"], tmp_path / "out")
    for name in SCENES:
        assert Image.open(tmp_path / f"out/masks/{name}.png").size == (WIDTH, HEIGHT)
        (root / f"SegmentationObject/{name}.png").unlink()
        (root / f"Annotations/{name}.xml").unlink()
        Image.open(tmp_path / f"out/masks/{name}.png").save(root / f"SegmentationClass/{name}.png")
    values, _ = score(root, tmp_path / "out/masks", "--geometry", "native")
    assert len(values) and (values == 100).all()
    values, _ = score(root, tmp_path / "out/coco.json", "--geometry", "native")
    assert values.max() == 100


@pytest.mark.parametrize("orientation", QUARTERS)
def test_a_coco_data_set(tmp_path, score, orientation):
    pixels, instances = SCENES["im0"]
    root = tmp_path / "coco"
    (root / "val2017").mkdir(parents=True)
    write_turned(root / "val2017/a.jpg", pixels, orientation)
    maps = tmp_path / "maps"
    maps.mkdir()
    Image.fromarray(instances).save(maps / "a.png")
    for labels in (instances, stored(instances, orientation)):
        coco_of(root, labels, "rle")
        values, said = score(root, maps, "--geometry", "native")
        assert len(values) and (values == 100).all() and "EXIF" not in said

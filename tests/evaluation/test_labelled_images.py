import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import CPU
from PIL import Image

from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError
from mmqsa.evaluation import scoring
from mmqsa.evaluation.controls import score_controls
from mmqsa.evaluation.labelled_images import LabelledFolder
from mmqsa.features.cache import FeatureCache
from mmqsa.features.extract import extract


def folder(root, split="val", geometry="crop", side=96):
    return LabelledFolder(VocFolder.find(root), split, "scenes", geometry, side)


def same_labels(ours, cache):
    assert (ours.name, ours.ids, ours.side) == (cache.name, cache.ids, cache.side)
    assert ours.attributes.items() <= cache.attributes.items()
    for kind in ("classes", "instances", "boxes"):
        for index in range(len(cache.ids)):
            mine, its = getattr(ours, kind)[index], getattr(cache, kind)[index]
            assert mine.dtype == its.dtype
            np.testing.assert_array_equal(mine, its)


def test_a_folder_has_the_labels_of_its_cache(voc_root, caches):
    same_labels(folder(voc_root), FeatureCache(caches["val"]))


@pytest.mark.parametrize("geometry", ["squash", "released"])
def test_in_every_geometry(tmp_path, voc_root, config, geometry):
    dataset = config.dataset.model_copy(update={"geometry": geometry})
    other = config.model_copy(update={"dataset": dataset})
    voc, path = VocFolder.find(voc_root), tmp_path / "val.h5"
    extract(voc, "detection-val", other, path, CPU)
    same_labels(folder(voc_root, "detection-val", geometry), FeatureCache(path))


def test_controls_on_a_folder_are_those_on_its_cache_to_the_byte(tmp_path, voc_root, caches):
    of_caches = score_controls(FeatureCache(caches["val"]), tmp_path / "a")
    of_folder = score_controls(folder(voc_root), tmp_path / "b")
    assert of_caches.read_bytes() == of_folder.read_bytes()
    of_caches = score_controls(
        FeatureCache(caches["val"]), tmp_path / "c", FeatureCache(caches["train"])
    )
    of_folder = score_controls(folder(voc_root), tmp_path / "d", folder(voc_root, "train"))
    assert "best fixed box" in of_folder.read_text()
    for path in of_caches.parent.iterdir():
        assert path.read_bytes() == (of_folder.parent / path.name).read_bytes()


def test_native_labels_are_those_of_the_files(voc_root):
    native, voc = folder(voc_root, geometry="native"), VocFolder.find(voc_root)
    assert native.name == "scenes-val-native"
    shapes = set()
    for index, image_id in enumerate(native.ids):
        size = voc.image(image_id).size
        assert native.size(index) == size
        np.testing.assert_array_equal(native.classes[index], voc.classes(image_id, size))
        np.testing.assert_array_equal(native.instances[index], voc.instances(image_id, size))
        np.testing.assert_array_equal(native.boxes[index], voc.boxes(image_id))
        shapes.add(native.classes[index].shape)
    assert len(shapes) > 1


def test_controls_cover_native_photographs(tmp_path, voc_root):
    native = folder(voc_root, geometry="native")
    path = score_controls(native, tmp_path, folder(voc_root, "train", "squash"))
    squash = score_controls(
        folder(voc_root, geometry="squash"), tmp_path, folder(voc_root, "train", "squash")
    )
    own, squashed = (
        pd.read_csv(one).query("protocol == 'boxes' and name.str.contains('fixed box')")
        for one in (path, squash)
    )
    assert own["value"].max() > 0  # IoU does not change when an axis is scaled
    assert own["value"].tolist() == squashed["value"].tolist()
    with pytest.raises(InputError, match=r"geometry = 'crop', but .* expects 'squash'"):
        score_controls(native, tmp_path, folder(voc_root, "train"))


def test_an_image_without_labels_among_others_is_void(own_voc):
    first, second = VocFolder(own_voc).ids("val")
    for kind, suffix in (("SegmentationClass", "png"), ("Annotations", "xml")):
        (own_voc / kind / f"{first}.{suffix}").unlink()
    labels = folder(own_voc, side=32)
    assert (labels.classes[0] == 255).all() and (labels.classes[1] != 255).any()
    assert labels.boxes[0].shape == (0, 4) and len(labels.boxes[1])
    for image_id in (first, second):
        (own_voc / "SegmentationObject" / f"{image_id}.png").unlink()
    assert folder(own_voc, side=32).instances is None


@pytest.mark.faults
def test_what_is_no_split_or_photograph_is_refused(own_voc):
    with pytest.raises(InputError, match="--split 'val-fog3': expected train, val"):
        folder(own_voc, "val-fog3")
    photograph = VocFolder(own_voc).image_path(VocFolder(own_voc).ids("val")[0])
    photograph.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"jpg: cannot be decoded .*restore the file"):
        folder(own_voc)
    photograph.unlink()
    with pytest.raises(InputError, match="missing, but the split list names it"):
        folder(own_voc)


def test_scores_do_not_depend_on_how_many_labels_stay_prepared(tmp_path, voc_root, monkeypatch):
    first = score_controls(folder(voc_root), tmp_path / "all")
    monkeypatch.setattr(scoring, "KEPT", 3 * 96**2)
    few = score_controls(folder(voc_root), tmp_path / "few")
    assert first.read_bytes() == few.read_bytes()


def test_a_label_map_is_not_held(voc_root):
    """Each is read when it is asked for."""
    labels = folder(voc_root)
    assert labels.classes[0] is not labels.classes[0]


def test_scores_of_a_folder_need_no_torch(tmp_path, voc_root):
    predictions = tmp_path / "png"
    predictions.mkdir()
    voc = VocFolder.find(voc_root)
    for image_id in voc.ids("val"):
        Image.new("L", voc.image(image_id).size).save(predictions / f"{image_id}.png")
    code = (
        "import sys; from mmqsa.cli import main; sys.argv[0] = 'mmqsa'\n"
        "try: main()\nfinally: assert not {'torch', 'timm'} & set(sys.modules)"
    )
    options = ["--predictions", str(predictions), "--name", "one", "--data", str(voc_root)]
    options += ["--results", str(tmp_path / "results")]
    config = tmp_path / "config.yaml"
    config.write_text("dataset: {name: scenes}\nbackbone: {image_size: 96}\n")
    command = [sys.executable, "-c", code, "score", *options, "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

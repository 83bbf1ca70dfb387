"""Which protocols a cache is scored by, and what they leave out."""

import numpy as np
import pandas as pd
import pytest
from conftest import CPU

from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError
from mmqsa.evaluation.controls import score_controls
from mmqsa.evaluation.metrics import PROTOCOLS
from mmqsa.evaluation.protocols import DESCRIPTIONS
from mmqsa.evaluation.scoring import Scorer
from mmqsa.features.cache import FeatureCache
from mmqsa.features.extract import extract


def extracted(voc, split, geometry, config, folder):
    dataset = config.dataset.model_copy(update={"geometry": geometry})
    path = folder / f"{split}-{geometry}.h5"
    extract(voc, split, config.model_copy(update={"dataset": dataset}), path, CPU)
    return FeatureCache(path)


def metrics(cache, out):
    found = pd.read_csv(score_controls(cache, out))
    return found, set(found["protocol"])


def test_every_protocol_is_described():
    assert list(DESCRIPTIONS) == list(PROTOCOLS)


def test_a_crop_has_the_papers_and_dinosaurs(tmp_path, caches):
    _, protocols = metrics(FeatureCache(caches["val"]), tmp_path)
    assert protocols == {"paper", "dinosaur", "spot", "single"}


def test_squashed_images_are_scored_by_all_their_boxes(tmp_path, voc_root, config):
    voc = VocFolder.find(voc_root)
    cache = extracted(voc, "detection-val", "squash", config, tmp_path)
    assert cache.name == "scenes-detection-val-squash"
    found, protocols = metrics(cache, tmp_path)
    assert protocols == {"boxes", "single"} and (found["n_images"] == 6).all()
    image = voc.image(cache.ids[0])
    boxes = voc.boxes(cache.ids[0]) * 96 / np.array(image.size * 2)
    np.testing.assert_allclose(cache.boxes[0], boxes, rtol=1e-5)
    scorer = Scorer(cache)
    nothing = np.zeros((1, 96, 96), np.uint8)
    scorer.add([0], nothing, boxes=[cache.boxes[0]], name="perfect", with_objects=True)
    assert (scorer.metrics(["name"])["value"] == 100).all() and scorer.per_object.empty


def test_the_released_geometry_is_scored_with_void_counted_and_without(tmp_path, voc_root, config):
    voc = VocFolder.find(voc_root)
    cache = extracted(voc, "val", "released", config, tmp_path)
    assert cache.name == "scenes-val-released"
    _, protocols = metrics(cache, tmp_path)
    assert protocols == {"released", "paper"}


def test_images_without_annotations_are_absent_not_zero(tmp_path, own_voc, config):
    voc = VocFolder(own_voc)
    first, second = voc.ids("detection-val")
    (own_voc / "Annotations" / f"{first}.xml").unlink()
    found, _ = metrics(extracted(voc, "detection-val", "squash", config, tmp_path), tmp_path)
    assert (found["n_images"] == 1).all()
    (own_voc / "Annotations" / f"{second}.xml").unlink()
    (tmp_path / "detection-val-squash.h5").unlink()
    with pytest.raises(InputError, match="has no boxes, and squashed images are scored by boxes"):
        metrics(extracted(voc, "detection-val", "squash", config, tmp_path), tmp_path)


def test_a_missing_detection_list_names_those_that_are_there(own_voc):
    with pytest.raises(InputError, match=r"Main/test.txt: split list missing; expected one of t"):
        VocFolder(own_voc).ids("detection-test")


def test_an_image_of_nothing_but_void_is_left_out(tmp_path, caches):
    cache = FeatureCache(caches["val"])

    class OneVoid:
        path, ids, side, name, boxes = cache.path, cache.ids, cache.side, cache.name, None
        attributes, instances = cache.attributes, None
        classes = cache.classes[:]

    OneVoid.classes[2] = 255
    found = pd.read_csv(score_controls(OneVoid(), tmp_path))
    assert (found["n_images"] == 5).all()

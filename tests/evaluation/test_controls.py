import numpy as np
import pandas as pd
import pytest

from mmqsa.evaluation.controls import (
    fitted_controls,
    fixed_controls,
    object_boxes,
    random_slots,
    score_controls,
)
from mmqsa.features.cache import FeatureCache


def test_controls_look_at_no_image(tmp_path, caches):
    maps = {name: control.labels for name, control in fixed_controls(320).items()}
    assert (maps["centre square"] == 1).sum() == 240 * 240
    assert [len(np.unique(found)) for found in maps.values()] == [1, 2, 4, 6, 9]
    path = score_controls(FeatureCache(caches["val"]), tmp_path, seeds=[0, 1])
    metrics = pd.read_csv(path)
    assert set(metrics["name"]) == {*maps, "random slots, K = 7"}
    assert set(metrics.query("name == 'random slots, K = 7'")["eval_seed"]) == {0, 1}
    one = metrics.query("name == 'one slot' and metric == 'mbo_c' and protocol == 'paper'")
    areas = []
    for labels in FeatureCache(caches["val"]).classes[:]:
        valid = labels[labels != 255]
        areas.append(np.mean([(valid == c).mean() for c in np.unique(valid[valid > 0])]))
    assert one["value"].item() == pytest.approx(100 * np.mean(areas), abs=1e-3)


def test_random_slots_are_seeded_and_cover_the_image():
    drawn = random_slots(64, 7, np.random.default_rng(0))
    assert drawn.shape == (64, 64) and set(np.unique(drawn)) <= set(range(7))
    np.testing.assert_array_equal(drawn, random_slots(64, 7, np.random.default_rng(0)))
    points = np.random.default_rng(0).uniform(0, 64, (7, 2))
    y, x = 10, 50  # by the plain formula
    nearest = ((points - [y + 0.5, x + 0.5]) ** 2).sum(axis=1).argmin()
    assert drawn[y, x] == nearest


def test_fixed_boxes_are_fitted_where_objects_are():
    left, right = np.array([[0, 0, 32, 64.0]]), np.array([[36, 8, 60, 60.0]])
    found = fitted_controls([left] * 5 + [right] * 3, side=64, num_slots=2)
    best, both = found["best fixed box"].boxes, found["2 fixed boxes"].boxes
    assert best[0, 2] < 50 and len(both) == 2  # the more frequent first, then what it misses
    np.testing.assert_array_equal(both[0], best[0])
    assert both[1, 0] > 25
    labels = found["2 fixed boxes"].labels
    assert set(np.unique(labels)) == {0, 1, 2}


def test_boxes_fitted_on_other_images_are_scored(tmp_path, caches):
    train, val = FeatureCache(caches["train"]), FeatureCache(caches["val"])
    metrics = pd.read_csv(score_controls(val, tmp_path, train, num_slots=3))
    corloc = metrics.query("metric == 'corloc'").set_index("name")["value"]
    assert {"best fixed box", "3 fixed boxes"} <= set(corloc.index)
    assert corloc["3 fixed boxes"] >= corloc["best fixed box"]  # its first box is the other's


def test_without_labels_there_is_nothing_to_fit_to(tmp_path, caches):
    val = FeatureCache(caches["val"])

    class Unlabelled:
        path, ids, attributes = "train.h5", ["a"], val.attributes
        classes = np.full((1, 8, 8), 255, np.uint8)

    assert object_boxes(Unlabelled()) == []
    names = set(pd.read_csv(score_controls(val, tmp_path, Unlabelled()))["name"])
    assert "centre square" in names and "best fixed box" not in names

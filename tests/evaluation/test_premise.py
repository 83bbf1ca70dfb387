import numpy as np
import pandas as pd
import pytest

from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError
from mmqsa.evaluation import premise as module
from mmqsa.evaluation.premise import Premise, measure_premise, object_share, write_premise
from mmqsa.evaluation.premise_figure import draw_premise
from mmqsa.features.cache import FeatureCache


def test_object_share_of_patches():
    classes = np.zeros((1, 4, 4), np.uint8)
    classes[0, :2, :2] = 5
    classes[0, 0, 2], classes[0, 1, 2] = 3, 255  # half of nothing: void is no object
    assert object_share(classes, 2).tolist() == [[1.0, 0.25, 0.0, 0.0]]


def made(sign: float) -> pd.Series:
    """Scores that follow the truth, with a little noise."""
    generator = np.random.default_rng(0)
    share = (generator.random((20, 100)) < 0.3).astype(float)
    score = sign * (0.5 - share) + 0.1 * generator.standard_normal(share.shape)
    return Premise(share, 0.0, {"made": score}).table(0.7).iloc[0]


def test_a_premise_that_holds_and_its_opposite():
    holds, opposite = made(1.0), made(-1.0)
    assert holds["auc_per_image"] == pytest.approx(1) and opposite["auc_pooled"] == pytest.approx(0)
    assert holds["all_object"] == pytest.approx(30, abs=2)
    assert holds["background_shows"] > 90 and holds["background_hides"] < 5
    assert holds["foreground_shows"] == 0
    assert opposite["background_shows"] == 0 and opposite["foreground_shows"] > 90


def test_images_of_one_kind_alone_have_no_area():
    share, score = np.zeros((2, 4)), np.array([[0.0, 1, 2, 3], [0, 1, 2, 3]])
    nothing = Premise(share, 0.0, {"made": score}).table(0.5).iloc[0]
    assert np.isnan(nothing["auc_per_image"]) and np.isnan(nothing["auc_pooled"])
    share[0, 0] = 1
    one = Premise(share, 0.0, {"made": score}).table(0.5).iloc[0]
    assert one["auc_per_image"] == 1 and one["auc_pooled"] == pytest.approx(13 / 14)


def test_a_histogram_counts_every_patch_once():
    share = np.array([[1.0, 1, 0, 0], [0, 0, 0, 1]])
    score = np.array([[-9.0, -1, 1, 0], [1, 1, 9, 0]])
    table = Premise(share, 0.0, {"made": score}).histogram()
    assert table["background"].sum() == 5 and table["object"].sum() == 3
    scaled = (score - score.mean()) / score.std()
    plain, _ = np.histogram(scaled[share == 0], [*table["low"], 3.0])
    assert table["background"].tolist() == plain.tolist()
    beyond = Premise(np.zeros((1, 99)), 0.0, {"made": np.r_[np.zeros(98), 50.0][None]}).histogram()
    assert beyond["background"].iloc[-1] == 1  # ten deviations above the mean


def test_the_scores_of_a_cache(tmp_path, caches):
    cache, train = FeatureCache(caches["val"]), FeatureCache(caches["train"])
    premise = measure_premise(cache, train)
    written, _ = write_premise(premise, cache.name, 0.7, tmp_path)
    table = pd.read_csv(written).set_index("score")
    features = cache.features[:].astype(np.float64)
    np.testing.assert_allclose(premise.scores["mean"], features.mean(axis=2), atol=1e-3)
    # Pooled, plainly: how often does a background patch score above an object patch?
    score, is_object = premise.scores["mean"].ravel(), premise.is_object.ravel()
    above = score[~is_object][:, None] > score[is_object]
    assert table.loc["mean", "auc_pooled"] == pytest.approx(above.mean(), abs=1e-3)
    assert table.loc["mean", "all_object"] == pytest.approx(100 * premise.share.mean(), abs=1e-3)
    at_position = features.mean(axis=0, keepdims=True)
    of_position = at_position.var(axis=(0, 1)) / features.var(axis=(0, 1))
    assert premise.position_variance == pytest.approx(of_position.mean(), abs=1e-6)


def test_blocks_of_images_change_nothing(tmp_path, caches, monkeypatch):
    cache, train = FeatureCache(caches["val"]), FeatureCache(caches["train"])
    once = measure_premise(cache, train).table(0.7)
    monkeypatch.setattr(module, "BLOCK", 4)
    pd.testing.assert_frame_equal(measure_premise(cache, train).table(0.7), once)


def test_another_networks_training_set_is_refused(tmp_path, caches):
    cache, train = FeatureCache(caches["val"]), FeatureCache(caches["train"])
    train.attributes["weights_sha256"] = "other"
    with pytest.raises(InputError, match="weights_sha256"):
        measure_premise(cache, train)


@pytest.mark.faults
def test_images_of_one_kind_alone_cannot_be_drawn(caches, voc_root, tmp_path):
    cache, shape = FeatureCache(caches["val"]), (6, 36)
    nothing = Premise(np.zeros(shape), 0.0, {name: np.zeros(shape) for name in module.SCORES})
    with pytest.raises(InputError, match="no image has background and object patches"):
        draw_premise(nothing, cache, VocFolder.find(voc_root), tmp_path / "f")

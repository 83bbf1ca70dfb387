"""Other methods on planted keys, where the answer is known, and on real files."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mmqsa.data.geometry import VOID
from mmqsa.errors import InputError
from mmqsa.evaluation.baselines import (
    kmeans_masks,
    lost,
    normalised_cut_masks,
    score_baseline,
    tokencut,
)
from mmqsa.evaluation.probe import LinearProbe, _regression, patch_shares
from mmqsa.features.cache import FeatureCache
from mmqsa.features.standardise import feature_statistics

GRID = 10


@pytest.fixture(scope="module")
def planted():
    """Keys (N, D) of an object of 4 x 3 patches on a ground, and where it is."""
    inside = np.zeros((GRID, GRID), bool)
    inside[2:6, 3:6] = True
    rng = np.random.default_rng(0)
    ground, thing = np.r_[np.ones(8), np.zeros(8)], np.r_[np.zeros(8), np.ones(8)]
    keys = np.where(inside.reshape(-1, 1), thing - 0.3, ground)
    return (keys + rng.normal(0, 0.05, keys.shape)).astype(np.float32), inside.ravel()


def test_lost_and_tokencut_find_the_planted_object(planted):
    keys, inside = planted
    for method in (lost, tokencut):
        masks, box = method(keys, GRID)
        np.testing.assert_array_equal(masks[1].astype(bool), inside)
        assert box.tolist() == [[3, 2, 6, 6]]


def test_a_box_is_of_the_seeds_component_alone(planted):
    keys, inside = planted
    keys = keys.copy()
    keys[-1] = keys[inside][0]  # a far patch like the object, not joined to it
    masks, box = tokencut(keys, GRID)
    assert masks[1].sum() == 13 and box.tolist() == [[3, 2, 6, 6]]


def test_clusterings_find_the_planted_object(planted):
    keys, inside = planted
    for masks in (kmeans_masks(keys, 2, 0), normalised_cut_masks(keys, 2)):
        assert (masks.sum(axis=0) == 1).all()
        found = masks.argmax(axis=0) == masks.argmax(axis=0)[np.flatnonzero(inside)[0]]
        np.testing.assert_array_equal(found, inside)


def test_patch_shares_leave_void_out():
    labels = np.zeros((1, 4, 4), np.uint8)
    labels[0, :2, :2] = [[3, 3], [3, VOID]]
    labels[0, 2:, 2:] = VOID
    shares = patch_shares(labels, 2)
    assert shares.shape == (1, 4, 256)
    assert shares[0, 0, 3] == 0.75 and shares[0, 0].sum() == 0.75
    assert shares[0, 1, 0] == 1 and shares[0, 3].sum() == 0


def test_the_probe_is_a_logistic_regression():
    rng = np.random.default_rng(0)
    keys = rng.normal(size=(600, 5)).astype(np.float32)
    labels = (keys @ rng.normal(size=(5, 3)) + rng.normal(size=(600, 3))).argmax(axis=1)
    weight, bias = _regression(
        torch.from_numpy(keys), torch.from_numpy(np.eye(3, dtype=np.float32)[labels])
    )
    oracle = LogisticRegression(C=1e6, max_iter=1000).fit(keys, labels)
    found = (torch.from_numpy(keys) @ weight.T + bias).softmax(dim=1).numpy()
    np.testing.assert_allclose(found, oracle.predict_proba(keys), atol=0.02)


def test_the_probe_needs_labels(caches):
    class Unlabelled:
        path, classes = "train.h5", None

    with pytest.raises(InputError, match=r"train.h5: has no class labels"):
        LinearProbe.fitted(Unlabelled(), None, None)


@pytest.fixture(scope="module")
def scored(tmp_path_factory, caches, settings):
    """The metrics of every method."""
    out = tmp_path_factory.mktemp("baselines")
    val, train = FeatureCache(caches["val"]), FeatureCache(caches["train"])
    return {
        method: score_baseline(method, val, train, settings, out)
        for method in settings.evaluation.baselines
    }


def test_every_method_is_scored_on_every_image(scored):
    names = [name for path in scored.values() for name in pd.read_csv(path)["name"].unique()]
    assert names == [
        "k-means, K = 2",
        "k-means, K = 4",
        "normalised cut, K = 2",
        "normalised cut, K = 7",
        "LOST, raw keys",
        "LOST, standardised keys",
        "TokenCut, raw keys",
        "TokenCut, standardised keys",
        "linear probe (supervised)",
        "oracle, classes at patch resolution",
        "oracle, instances at patch resolution",
    ]
    for path in scored.values():
        assert (pd.read_csv(path)["n_images"] == 6).all()
        for suffix in ("per_image", "per_object"):
            assert path.with_name(f"{path.stem}-{suffix}.csv").is_file()


def test_nothing_is_above_the_oracle(scored):
    best = pd.concat([pd.read_csv(path) for path in scored.values()])
    for metric, labels in (("mbo_c", "classes"), ("mbo_i", "instances")):
        own = best[best["metric"] == metric].set_index("name")["value"]
        assert own.idxmax() == f"oracle, {labels} at patch resolution"


def test_methods_are_deterministic(tmp_path, scored, caches, settings):
    val, train = FeatureCache(caches["val"]), FeatureCache(caches["train"])
    for method in ("kmeans", "normalised-cut", "tokencut", "probe"):
        again = score_baseline(method, val, train, settings, tmp_path)
        assert again.read_bytes() == scored[method].read_bytes()


def test_keys_are_standardised_as_a_model_sees_them(caches):
    cache = FeatureCache(caches["train"])
    mean, std = feature_statistics(cache.features, "feature")
    keys = (torch.from_numpy(cache.features[:]).float() - mean) / std
    assert keys.mean().abs() < 1e-3 and (keys.std(dim=(0, 1)) - 1).abs().max() < 1e-2

"""Other methods on planted features, where the answer is known, and on real files."""

import shutil
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest

from mmqsa.config.evaluation import BASELINES, EvaluationConfig
from mmqsa.errors import InputError
from mmqsa.evaluation.baselines import (
    METHODS,
    Image,
    Images,
    lost,
    score_baseline,
    tokencut,
)
from mmqsa.features.cache import FeatureCache, Rows

GRID = 10


@pytest.fixture(scope="module")
def planted():
    """Features (N, D) of an object of 4 x 3 patches on a ground, and where it is."""
    inside = np.zeros((GRID, GRID), bool)
    inside[2:6, 3:6] = True
    rng = np.random.default_rng(0)
    ground, thing = np.r_[np.ones(8), np.zeros(8)], np.r_[np.zeros(8), np.ones(8)]
    features = np.where(inside.reshape(-1, 1), thing - 0.3, ground)
    return (features + rng.normal(0, 0.05, features.shape)).astype(np.float32), inside.ravel()


def test_lost_and_tokencut_find_the_planted_object(planted):
    features, inside = planted
    for method in (lost, tokencut):
        masks, box, void = method(features, GRID)
        assert not void
        np.testing.assert_array_equal(masks[1].astype(bool), inside)
        assert box.tolist() == [[3, 2, 6, 6]]


def test_a_box_is_of_the_seeds_component_alone(planted):
    features, inside = planted
    features = features.copy()
    features[-1] = features[inside][0]  # a far patch like the object, not joined to it
    masks, box, _ = tokencut(features, GRID)
    assert masks[1].sum() == 13 and box.tolist() == [[3, 2, 6, 6]]


class Planted(list):
    """Images of planted features, for two clusters."""

    config = EvaluationConfig(kmeans_clusters=[2], cut_segments=[2], seeds=[0])
    cache = SimpleNamespace(grids=np.array([[GRID, GRID]]), path="planted.h5")
    check_clusters = Images.check_clusters


def test_clusterings_find_the_planted_object(planted):
    features, inside = planted
    for name in ("kmeans", "normalised-cut"):
        (prediction,) = METHODS[name](Planted([Image(0, features, features, (GRID, GRID))]))
        masks = prediction.masks
        assert (masks.sum(axis=0) == 1).all()
        found = masks.argmax(axis=0) == masks.argmax(axis=0)[np.flatnonzero(inside)[0]]
        np.testing.assert_array_equal(found, inside)


@pytest.mark.faults
@pytest.mark.parametrize("method", ["kmeans", "normalised-cut"])
def test_images_that_are_all_alike_say_nothing(method, recwarn):
    alike = np.zeros((GRID**2, 4), np.float32)
    assert len(list(METHODS[method](Planted([Image(0, alike, alike, (GRID, GRID))])))) == 1
    assert not recwarn.list


@pytest.mark.faults
@pytest.mark.parametrize(
    "method, key", [("kmeans", "kmeans_clusters"), ("normalised-cut", "cut_segments")]
)
def test_more_clusters_than_patches(method, key, monkeypatch):
    monkeypatch.setattr(Planted.cache, "grids", np.array([[GRID, GRID], [1, 1]]))
    with pytest.raises(InputError, match=f"evaluation.{key}: 2, but planted.h5 has 1 patches"):
        next(METHODS[method](Planted()))


@pytest.fixture(scope="module")
def scored(tmp_path_factory, caches, config):
    """The metrics of every method."""
    out = tmp_path_factory.mktemp("baselines")
    val, train = FeatureCache(caches["val"]), FeatureCache(caches["train"])
    return {
        method: score_baseline(method, val, train, config, out)
        for method in config.evaluation.baselines
    }


def test_every_method_is_scored_on_every_image(scored):
    names = [name for path in scored.values() for name in pd.read_csv(path)["name"].unique()]
    assert names == [
        "k-means, K = 2",
        "k-means, K = 4",
        "normalised cut, K = 2",
        "normalised cut, K = 7",
        "LOST, raw features",
        "LOST, standardised features",
        "TokenCut, raw features",
        "TokenCut, standardised features",
        "linear probe (supervised)",
        "oracle, classes at patch resolution",
        "oracle, instances at patch resolution",
    ]
    for path in scored.values():
        assert (pd.read_csv(path)["n_images"] == 6).all()
        for suffix in ("per_image", "per_object"):
            assert path.with_name(f"{path.stem}-{suffix}.csv.gz").is_file()


def test_nothing_is_above_the_oracle(scored):
    best = pd.concat([pd.read_csv(path) for path in scored.values()])
    for metric, labels in (("mbo_c", "classes"), ("mbo_i", "instances")):
        own = best[best["metric"] == metric].set_index("name")["value"]
        assert own.idxmax() == f"oracle, {labels} at patch resolution"


def test_methods_are_deterministic(tmp_path, scored, caches, config):
    val, train = FeatureCache(caches["val"]), FeatureCache(caches["train"])
    for method in ("kmeans", "normalised-cut", "tokencut", "probe"):
        again = score_baseline(method, val, train, config, tmp_path)
        assert again.read_bytes() == scored[method].read_bytes()


@pytest.mark.parametrize("standardise", ["feature", "none"])
def test_features_are_standardised_over_the_training_set(caches, config, standardise):
    changed = config.changed("test", {"features": {"standardise": standardise}})
    cache = FeatureCache(caches["train"])
    images = list(Images(cache, cache, changed))
    raw, features = (np.stack([getattr(i, name) for i in images]) for name in ("raw", "features"))
    np.testing.assert_array_equal(raw, cache.features[:])
    if standardise == "none":
        np.testing.assert_array_equal(features, raw)
    else:
        assert abs(features.mean()) < 1e-3
        np.testing.assert_allclose(features.std(axis=(0, 1)), 1, atol=1e-2)


@pytest.mark.parametrize("method", ["lost", "tokencut"])
def test_a_graph_that_joins_all_patches_is_named(
    tmp_path, scored, caches, config, method, monkeypatch
):
    """Raw features far from zero have no negative similarity: one and the same box everywhere."""
    usual = pd.read_csv(scored[method])
    assert set(usual.loc[usual["name"].str.contains("standardised"), "void"]) == {0}
    val, train = FeatureCache(caches["val"]), FeatureCache(caches["train"])
    real, far = Rows.__getitem__, {np.dtype(np.float16): np.float16(50)}  # features, not labels
    monkeypatch.setattr(
        Rows,
        "__getitem__",
        lambda rows, index: real(rows, index) + far.get(rows.dtype, np.uint8(0)),
    )
    table = pd.read_csv(score_baseline(method, val, train, config, tmp_path))
    assert set(table.loc[table["name"].str.contains("raw"), "void"]) == {100}


def test_every_baseline_has_its_function_and_the_reverse():
    assert set(METHODS) == set(BASELINES)


@pytest.mark.faults
def test_a_training_cache_of_another_width_is_refused(tmp_path, caches, config):
    path = shutil.copy(caches["train"], tmp_path / "train.h5")
    with h5py.File(path, "a", locking=False) as file:
        del file["features"]
        file["features"] = np.ones((8, 36, 8), np.float16)
    val, narrow = FeatureCache(caches["val"]), FeatureCache(path)
    with pytest.raises(
        InputError, match=r"features = \(36, 192\), but .*train.h5 expects \(36, 8\)"
    ):
        score_baseline("kmeans", val, narrow, config, tmp_path)


def test_an_unknown_baseline_is_refused(config):
    expected = r"unknown baseline 'kmean'; expected one of kmeans, normalised-cut, "
    with pytest.raises(InputError, match=expected):
        config.changed("test", {"evaluation": {"baselines": ["kmean"]}})

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mmqsa.data.geometry import VOID
from mmqsa.errors import InputError
from mmqsa.evaluation import probe as module
from mmqsa.evaluation.probe import LinearProbe, _regression, patch_shares
from mmqsa.features.cache import FeatureCache, Rows
from mmqsa.features.standardise import feature_statistics


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
    features = rng.normal(size=(600, 5)).astype(np.float32)
    labels = (features @ rng.normal(size=(5, 3)) + rng.normal(size=(600, 3))).argmax(axis=1)
    weight, bias = _regression(
        torch.from_numpy(features), torch.from_numpy(np.eye(3, dtype=np.float32)[labels])
    )
    oracle = LogisticRegression(C=1e6, max_iter=1000).fit(features, labels)
    found = (torch.from_numpy(features) @ weight.T + bias).softmax(dim=1).numpy()
    np.testing.assert_allclose(found, oracle.predict_proba(features), atol=0.02)


def test_the_probe_needs_labels(caches):
    class Unlabelled:
        path, classes = "train.h5", None

    with pytest.raises(InputError, match=r"train.h5: has no class labels"):
        LinearProbe.fitted(Unlabelled(), None, None)


def test_a_probe_of_few_images_uses_them_evenly(caches, monkeypatch):
    monkeypatch.setattr(module, "IMAGES", 2)
    cache, read = FeatureCache(caches["train"]), []
    statistics, real = feature_statistics(cache.features, "feature"), Rows.__getitem__

    def recorded(rows, index):
        read.extend([index] if rows.dtype == np.float16 else [])
        return real(rows, index)

    monkeypatch.setattr(Rows, "__getitem__", recorded)
    probe = LinearProbe.fitted(cache, *statistics)
    assert read == [0, 4]  # of 8
    masks = probe.masks(np.zeros((36, 192), np.float32))
    assert masks.shape == (21, 36)
    np.testing.assert_allclose(masks.sum(axis=0), 1, rtol=1e-5)

import hashlib
import json
import shutil

import h5py
import numpy as np
import pytest
from conftest import CPU
from test_cache_file import ATTRIBUTES

from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError
from mmqsa.features import cache_writer as module
from mmqsa.features.attributes import check_attributes
from mmqsa.features.cache import FeatureCache
from mmqsa.features.cache_writer import CacheWriter
from mmqsa.features.extract import extract


def write(path, features, attributes=ATTRIBUTES):
    """A finished cache of the given features."""
    ids = [f"image{index}" for index in range(len(features))]
    writer = CacheWriter(path, ids, attributes, {}, features.shape[1:])
    writer.write(writer.pending, features, {"classes": [None] * len(ids)}, [None] * len(ids))
    writer.finish()
    return FeatureCache(path)


def test_features_that_differ_give_caches_made_alike_another_identity(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 2)
    features = np.arange(60, dtype=np.float16).reshape(5, 4, 3)
    first = write(tmp_path / "a.h5", features)
    again = write(tmp_path / "b.h5", features)
    features[4, 3, 2] += 1
    other = write(tmp_path / "c.h5", features)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    digest = hashlib.sha256(features.tobytes()).hexdigest()
    assert other.attributes == ATTRIBUTES | {"features_sha256": digest}


def test_an_existing_cache_is_accepted_whatever_its_features(tmp_path, voc_root, config, caches):
    """Two machines round differently: what was asked for is compared, not what came out."""
    path = shutil.copy(caches["val"], tmp_path / "val.h5")
    identity = json.loads(caches["val"].with_suffix(".json").read_text())
    assert identity == FeatureCache(path).attributes and len(identity["features_sha256"]) == 64
    with h5py.File(path, "a") as file:
        changed = json.loads(file.attrs["attributes"]) | {"features_sha256": "0" * 64}
        file.attrs["attributes"] = json.dumps(changed)
    assert extract(VocFolder.find(voc_root), "val", config, tmp_path / "val.h5", CPU) == 0
    assert json.loads((tmp_path / "val.json").read_text()) == changed


def test_a_difference_is_named_with_who_expects_it():
    check_attributes({"grid": 2, "block": 1}, {"grid": 2}, "a.h5")
    with pytest.raises(InputError, match=r"a.h5: made with grid = 2, but the run expects 3; use"):
        check_attributes({"grid": 2}, {"grid": 3}, "a.h5", reader="the run")


@pytest.mark.faults
def test_features_that_are_not_finite_are_named(tmp_path):
    features = np.zeros((5, 4, 3), np.float16)
    features[3, 1, 1] = np.nan
    cache = write(tmp_path / "a.h5", features)
    assert cache.features[0:3].shape == (3, 4, 3)
    for rows in (3, slice(1, 5), [0, 3]):
        with pytest.raises(InputError, match=r"a.h5: of image3 the features are not finite"):
            cache.features[rows]


@pytest.mark.faults
def test_a_cache_of_an_earlier_version_is_refused(tmp_path, caches):
    path = shutil.copy(caches["val"], tmp_path / "val.h5")
    with h5py.File(path, "a") as file:
        file.move("features", "keys")
    with pytest.raises(
        InputError, match=r"val.h5: not a feature cache of this version: it has no features"
    ):
        FeatureCache(path)


@pytest.mark.faults
def test_damaged_and_unfinished_caches(tmp_path, caches):
    path = tmp_path / "cut.h5"
    path.write_bytes(caches["val"].read_bytes()[:4000])
    with pytest.raises(InputError, match=r"cut.h5: not a readable feature cache"):
        FeatureCache(path)
    with pytest.raises(InputError, match=r"none.h5: no such feature cache"):
        FeatureCache(tmp_path / "none.h5")
    path.write_bytes(caches["val"].read_bytes())
    with h5py.File(path, "a") as file:
        file["done"][2] = False
    with pytest.raises(InputError, match=r"extraction has not finished"):
        FeatureCache(path)

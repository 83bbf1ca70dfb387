import shutil

import h5py
import numpy as np
import pytest
from conftest import CPU

from mmqsa.data.geometry import Geometry
from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError
from mmqsa.features import extract as module
from mmqsa.features.backbone import load_backbone
from mmqsa.features.cache import FeatureCache
from mmqsa.features.extract import extract, normalise


def test_cache_holds_what_the_contract_says(caches, voc_root, config):
    cache = FeatureCache(caches["val"])
    voc, backbone = VocFolder.find(voc_root), load_backbone(config.backbone)
    geometry = Geometry("crop", 96)
    assert cache.ids == voc.ids("val")
    assert cache.features.shape == (6, 36, 192) and cache.features.dtype == np.float16
    assert cache.features.dataset.chunks is None  # contiguous
    for index, image_id in enumerate(cache.ids):
        image = voc.image(image_id)
        expected = backbone.features(normalise([geometry.image(image)], backbone))[0]
        np.testing.assert_allclose(cache.features[index], expected, atol=2e-3, rtol=2e-3)
        np.testing.assert_array_equal(
            cache.classes[index], geometry.labels(voc.classes(image_id, image.size))
        )
        np.testing.assert_array_equal(
            cache.instances[index], geometry.labels(voc.instances(image_id, image.size))
        )
    with h5py.File(caches["val"], locking=False) as file:
        assert file["boxes"].shape[1] == 4
        assert set(file["box_image"][:]) <= set(range(6))


@pytest.mark.faults
def test_an_interrupted_extraction_goes_on(tmp_path, voc_root, config, caches, monkeypatch):
    slow = config.model_copy(
        update={"backbone": config.backbone.model_copy(update={"batch_size": 2})}
    )
    voc, out = VocFolder.find(voc_root), tmp_path / "val.h5"
    real = module._prepare

    def interrupted(voc, image_id, *others):
        if image_id == voc.ids("val")[3]:
            raise KeyboardInterrupt
        return real(voc, image_id, *others)

    monkeypatch.setattr(module, "_prepare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(voc, "val", slow, out, CPU)
    assert not out.exists()
    monkeypatch.setattr(module, "_prepare", real)
    assert extract(voc, "val", slow, out, CPU) == 4  # of 6: the first batch of 2 was kept
    with h5py.File(out, locking=False) as again, h5py.File(caches["val"], locking=False) as once:
        assert set(again) == set(once)
        for name in ("classes", "instances", "boxes", "box_image", "image_id"):
            np.testing.assert_array_equal(again[name], once[name])
        np.testing.assert_allclose(again["features"][:], once["features"][:], atol=2e-3)
    assert extract(voc, "val", slow, out, CPU) == 0


def test_an_extraction_killed_before_its_last_rename_only_needs_that(
    tmp_path, voc_root, config, caches
):
    shutil.copy(caches["val"], tmp_path / "val.h5.partial")
    assert extract(VocFolder.find(voc_root), "val", config, tmp_path / "val.h5", CPU) == 0
    assert FeatureCache(tmp_path / "val.h5").ids == FeatureCache(caches["val"]).ids


def test_images_wait_in_bounded_number_and_in_order():
    started = []

    def prepare(index):
        started.append(index)
        return (index,)

    batches = np.split(np.arange(40), 10)
    ahead = module._ahead(prepare, batches)
    for position, (indices, batch) in enumerate(zip(batches, ahead, strict=True)):
        assert batch == [(index,) for index in indices]
        assert len(started) <= 4 * (position + 1 + module.AHEAD)
    assert sorted(started) == list(range(40))


def test_an_error_in_a_thread_stops_the_extraction():
    def fails(index):
        raise InputError(f"{index}.jpg: damaged")

    with pytest.raises(InputError, match=r"0.jpg: damaged"):
        next(module._ahead(fails, np.split(np.arange(40), 10)))


@pytest.mark.parametrize("precision, error", [("bf16", 0.02), ("tf32", 1e-6)])
def test_other_precisions_come_close_and_are_told_apart(
    tmp_path, voc_root, config, caches, precision, error
):
    own = config.model_copy(
        update={"backbone": config.backbone.model_copy(update={"precision": precision})}
    )
    extract(VocFolder.find(voc_root), "val", own, tmp_path / "val.h5", CPU)
    found, exact = FeatureCache(tmp_path / "val.h5"), FeatureCache(caches["val"])
    features, expected = (cache.features[:].astype(np.float32) for cache in (found, exact))
    assert np.linalg.norm(features - expected) <= error * np.linalg.norm(expected)
    assert found.attributes["precision"] == precision and found.network != exact.network


@pytest.mark.faults
def test_a_cache_made_otherwise_is_refused_and_stays(tmp_path, voc_root, config):
    voc, out = VocFolder.find(voc_root), tmp_path / "val.h5"
    extract(voc, "val", config, out, CPU)
    before = out.read_bytes()
    other = config.model_copy(update={"backbone": config.backbone.model_copy(update={"seed": 1})})
    with pytest.raises(InputError, match=r"val.h5: made with weights_sha256 = .* delete it"):
        extract(voc, "val", other, out, CPU)
    assert out.read_bytes() == before


@pytest.mark.faults
def test_what_is_no_cache_is_not_written_over(tmp_path, voc_root, config):
    voc, mine = VocFolder.find(voc_root), {}
    for name in ("x.json", "notes.h5", "y.json"):
        mine[name] = tmp_path / name
        mine[name].write_text('{"mine": 1}')
    (tmp_path / "folder.h5").mkdir()
    for out, said in (
        ("x.json", "a feature cache is called NAME.h5"),
        ("notes.h5", "notes.h5: exists and is of another kind; it stays"),
        ("y.h5", "y.json: exists and is of another kind; it stays"),
        ("folder.h5", "not a regular file"),
    ):
        with pytest.raises(InputError, match=said):
            extract(voc, "val", config, tmp_path / out, CPU)
    assert all(path.read_text() == '{"mine": 1}' for path in mine.values())

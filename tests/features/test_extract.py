import shutil

import h5py
import numpy as np
import pytest
import torch
from conftest import CPU
from PIL import Image
from turned import stored, write_turned

from mmqsa.data.geometry import Geometry
from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError
from mmqsa.features import extract as module
from mmqsa.features.backbone import load_backbone
from mmqsa.features.cache import FeatureCache
from mmqsa.features.extract import extract, normalise
from mmqsa.training.loop import train


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


def at_own_size(config, **backbone):
    """The config whose photographs keep their size."""
    dataset = config.dataset.model_copy(update={"geometry": "native"})
    changed = config.backbone.model_copy(update=backbone)
    return config.model_copy(update={"dataset": dataset, "backbone": changed})


@pytest.fixture(scope="module")
def native(tmp_path_factory, voc_root, config):
    """The cache of val at its own size, two photographs of one grid at a time."""
    path = tmp_path_factory.mktemp("native") / "val.h5"
    extract(VocFolder.find(voc_root), "detection-val", at_own_size(config), path, CPU, None, 2)
    return path


def test_photographs_at_their_own_size_are_those_of_a_plain_loop(native, voc_root, config):
    """One photograph at a time, padded as LOST does, through a network of its size alone."""
    cache, voc = FeatureCache(native), VocFolder.find(voc_root)
    grids = set()
    for index, image_id in enumerate(cache.ids):
        pixels = np.asarray(voc.image(image_id))
        height, width, _ = pixels.shape
        rows, columns = -(-height // 16), -(-width // 16)
        normalised = torch.zeros(3, 16 * rows, 16 * columns)  # zero: the mean colour
        normalised[:, :height, :width] = torch.tensor(pixels / 255 - 0.5).permute(2, 0, 1) / 0.5
        backbone = load_backbone(config.backbone)
        expected = backbone.features(normalised[None])[0]
        found = cache.of_image(index)
        assert found.shape == (rows * columns, 192) and found.dtype == np.float16
        np.testing.assert_allclose(found, expected, atol=2e-2)  # the colour is rounded to 8 bits
        assert np.abs(found - expected.numpy()).mean() < 1e-3
        np.testing.assert_array_equal(cache.boxes[index], voc.boxes(image_id))
        assert cache.size(index) == (width, height)
        assert cache.grid_of(index) == (rows, columns)
        grids.add((rows, columns))
    assert len(grids) > 1
    with h5py.File(native, locking=False) as file:
        assert "classes" not in file and file["features"].chunks is None
        assert len(file["features"]) == sum(cache.grids.prod(axis=1))


def test_batches_hold_photographs_of_one_grid(native, caches):
    cache, squares = FeatureCache(native), FeatureCache(caches["val"])
    batches = cache.batches(2)
    assert sorted(index for batch in batches for index in batch) == list(range(6))
    for batch in batches:
        assert len({cache.grid_of(index) for index in batch}) == 1 and len(batch) <= 2
        np.testing.assert_array_equal(cache.of_batch(batch)[-1], cache.of_image(batch[-1]))
    assert [list(batch) for batch in squares.batches(4)] == [[0, 1, 2, 3], [4, 5]]
    np.testing.assert_array_equal(squares.of_batch(range(4, 6)), squares.features[4:6])


@pytest.mark.faults
def test_an_extraction_at_own_size_goes_on_and_knows_its_photographs(
    tmp_path, own_voc, config, monkeypatch
):
    voc, out, own = VocFolder.find(own_voc), tmp_path / "native.h5", at_own_size(config)
    extract(voc, "train", own, tmp_path / "once.h5", CPU, None, 1)
    real, done = module._prepare, []

    def interrupted(*arguments):
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return real(*arguments)

    monkeypatch.setattr(module, "AHEAD", 0)
    monkeypatch.setattr(module, "_prepare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(voc, "train", own, out, CPU, None, 1)
    monkeypatch.setattr(module, "_prepare", real)
    path = own_voc / "JPEGImages" / f"{voc.ids('train')[0]}.jpg"
    before = path.read_bytes()
    Image.new("RGB", (40, 70)).save(path)
    with pytest.raises(InputError, match="of other images, or of features of another size"):
        extract(voc, "train", own, out, CPU, None, 1)
    path.write_bytes(before)
    assert extract(voc, "train", own, out, CPU, None, 1) == 2
    once = FeatureCache(tmp_path / "once.h5")
    assert FeatureCache(out).fingerprint == once.fingerprint


@pytest.mark.faults
@pytest.mark.parametrize("size", [(10, 300), (2060, 2060)])
def test_a_photograph_of_too_few_or_too_many_patches(tmp_path, own_voc, config, size):
    voc = VocFolder.find(own_voc)
    Image.new("RGB", size).save(own_voc / "JPEGImages" / f"{voc.ids('train')[1]}.jpg")
    with pytest.raises(InputError, match=r"jpg: \d+x\d+ px are \d+x\d+ patches, not 2 a side"):
        extract(voc, "train", at_own_size(config), tmp_path / "native.h5", CPU)


@pytest.mark.faults
def test_a_stage_that_needs_squares_refuses_photographs_at_their_own_size(
    tmp_path, native, config, voc_root
):
    cache, photograph = FeatureCache(native), VocFolder.find(voc_root).image("val_00000")
    for needs in (
        lambda: train(cache, config, 0, tmp_path, CPU),
        lambda: cache.grid,
        lambda: cache.square(photograph),
    ):
        with pytest.raises(InputError, match=r"val.h5: holds photographs at their own size"):
            needs()


def rewrite(voc, orientation, tagged, labels_too):
    """Photographs of val, 64 x 48 px upright, stored for ``orientation``, with its tag or without.

    ``labels_too``: their label maps are drawn on the stored pixels.
    """
    for number, image_id in enumerate(voc.ids("val")):
        upright = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        path = voc.image_path(image_id)
        write_turned(path, upright, orientation)
        if not tagged:
            Image.open(path).save(path, "PNG", exif=b"")
        instances = np.zeros((48, 64), dtype=np.uint8)
        instances[5:20, 10:40] = 1
        labels = stored(instances, orientation) if labels_too else instances
        for kind in ("SegmentationClass", "SegmentationObject"):
            Image.fromarray(labels).save(voc.path / kind / f"{image_id}.png")


@pytest.mark.parametrize("orientation", [3, 6])
def test_photographs_that_exif_turns_are_upright(tmp_path, own_voc, config, orientation, capsys):
    voc = VocFolder(own_voc)
    rewrite(voc, 1, tagged=False, labels_too=False)
    extract(voc, "val", config, tmp_path / "upright.h5", CPU)
    rewrite(voc, orientation, tagged=True, labels_too=orientation == 6)
    capsys.readouterr()
    extract(voc, "val", config, tmp_path / "turned.h5", CPU)
    # Of a half turn no size tells on which side of it the labels were drawn.
    assert ("EXIF: for 2 of 2 photographs" in capsys.readouterr().err) == (orientation == 3)
    upright, turned = (FeatureCache(tmp_path / f"{name}.h5") for name in ("upright", "turned"))
    for name in ("features", "classes", "instances"):
        np.testing.assert_array_equal(getattr(turned, name)[:], getattr(upright, name)[:])
    assert "exif_turned" not in upright.attributes and turned.attributes["exif_turned"] == 2


@pytest.mark.faults
def test_a_cache_of_photographs_that_exif_did_not_turn_is_refused(tmp_path, own_voc, config):
    """As versions before wrote them; and the other way round."""
    voc, out = VocFolder(own_voc), tmp_path / "val.h5"
    for tagged, said in ((False, "None, but .* expects 2"), (True, "2, but .* expects None")):
        rewrite(voc, 6, tagged, labels_too=True)
        assert extract(voc, "val", config, out, CPU) == 2
        rewrite(voc, 6, not tagged, labels_too=True)
        with pytest.raises(InputError, match=f"exif_turned = {said}; .*delete it and extract"):
            extract(voc, "val", config, out, CPU)
        out.unlink()

"""Memory that ends, clocks that run backwards, features that are no numbers, lists that changed."""

import shutil
import time

import h5py
import numpy as np
import pytest
import torch
from stages import mmqsa, refused, write_config

from mmqsa.config.workflow import Config
from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError
from mmqsa.evaluation.evaluate import evaluate
from mmqsa.features.backbone import FrozenViT
from mmqsa.features.cache import FeatureCache
from mmqsa.features.extract import extract
from mmqsa.model.masked_slot_model import MaskedSlotModel
from mmqsa.training.loop import train
from mmqsa.training.run import WEIGHTS, Run

pytestmark = pytest.mark.faults
CPU = torch.device("cpu")


@pytest.fixture
def small_gpu(monkeypatch):
    """``small_gpu(n)``: a backbone that runs out of memory over more than n images."""
    real, passes = FrozenViT.features, []

    def limited(most: int) -> list[int]:
        def features(self, images):
            if len(images) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            passes.append(len(images))
            return real(self, images)

        monkeypatch.setattr(FrozenViT, "features", features)
        return passes

    return limited


def test_extraction_goes_on_with_half_the_batch(
    tmp_path, voc_root, config, caches, small_gpu, capsys
):
    passes = small_gpu(3)
    extract(VocFolder.find(voc_root), "train", config, tmp_path / "train.h5", CPU, batch_size=4)
    assert passes == [2, 2, 2, 2]
    said = capsys.readouterr().err
    assert said.count("are too many") == 1  # and from then on fewer are tried
    assert (
        "4 images at a time are too many for cpu: continuing with 2; lower backbone.batch" in said
    )
    features = FeatureCache(tmp_path / "train.h5").features[:]
    np.testing.assert_allclose(features, FeatureCache(caches["train"]).features[:], atol=2e-3)


def test_one_image_that_does_not_fit_names_its_size(tmp_path, voc_root, config, small_gpu):
    small_gpu(0)
    with pytest.raises(InputError, match=r"backbone.image_size: a single image of 96x96 px"):
        extract(VocFolder.find(voc_root), "train", config, tmp_path / "train.h5", CPU)


def plain(config: Config) -> Config:
    """Without the matching that has to be learned first."""
    matching = config.matching.model_copy(update={"strategies": ["hungarian"]})
    return config.model_copy(update={"matching": matching})


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError("Unable to allocate 9 GiB"),
    ],
)
def test_a_batch_that_does_not_fit_is_named(
    tmp_path, caches, config, run_folder, monkeypatch, error
):
    def ends(*_, **__):
        raise error

    monkeypatch.setattr(MaskedSlotModel, "forward", ends)
    monkeypatch.setattr(MaskedSlotModel, "run_heads", ends)
    with pytest.raises(InputError, match=r"training.batch_size: not enough memory .*; lower it"):
        train(FeatureCache(caches["train"]), config, 0, tmp_path / "run", CPU)
    with pytest.raises(InputError, match=r"evaluation.batch_size: not enough memory .*; lower it"):
        evaluate(Run.load(run_folder), FeatureCache(caches["val"]), plain(config), tmp_path, CPU)


def test_another_error_is_not_taken_for_it(tmp_path, caches, config, monkeypatch):
    def breaks(*_):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(MaskedSlotModel, "forward", breaks)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train(FeatureCache(caches["train"]), config, 0, tmp_path / "run", CPU)


def test_features_that_are_not_finite_stop_every_stage_that_reads_them(
    tmp_path, caches, config, run_folder
):
    named = {}
    for split in ("train", "val"):
        path = shutil.copy(caches[split], tmp_path / f"{split}.h5")
        with h5py.File(path, "a") as file:
            file["features"][2, 5, 7] = np.nan if split == "train" else np.inf
        named[split] = FeatureCache(path).ids[2]
    file = write_config(tmp_path / "config.yaml", plain(config))
    train_h5, val_h5, out = tmp_path / "train.h5", tmp_path / "val.h5", tmp_path / "out"
    for split, command in (
        ("train", ("train", "--features", train_h5, "--config", file)),
        ("val", ("evaluate", "--run", run_folder, "--features", val_h5, "--config", file)),
        ("val", ("agreement", "--run", run_folder, "--features", val_h5)),
        (
            "val",
            ("baseline", "--method", "lost", "--features", val_h5, "--train", caches["train"]),
        ),
    ):
        line = refused(mmqsa(*command, "--out", out))
        assert (
            f"{split}.h5: of {named[split]} the features are not finite; delete the cache" in line
        )
    assert not list(out.rglob("*.csv")) and not list(out.rglob(WEIGHTS))


def test_a_backbone_that_gives_no_numbers(tmp_path, voc_root, config, monkeypatch):
    real = FrozenViT.features
    monkeypatch.setattr(FrozenViT, "features", lambda self, images: real(self, images) * 1e30)
    with pytest.raises(InputError, match=r"backbone.name: .* not finite in float16 .* batch with"):
        extract(VocFolder.find(voc_root), "train", config, tmp_path / "train.h5", CPU)
    assert not (tmp_path / "train.h5").exists()


def test_a_split_list_that_changed_since(tmp_path, own_voc, config):
    voc, out = VocFolder.find(own_voc), tmp_path / "val.h5"
    ids = voc.ids("val")
    extract(voc, "val", config, out, CPU)
    before = out.read_bytes()
    (own_voc / "ImageSets/Segmentation/val.txt").write_text(f"{ids[0]}\n{voc.ids('train')[0]}\n")
    expected = (
        rf"val.h5: holds 2 images, but the split's list has 2: {ids[1]} is no longer in the split "
        rf"and {voc.ids('train')[0]} is new in it; delete the cache"
    )
    with pytest.raises(InputError, match=expected):
        extract(voc, "val", config, out, CPU)
    (own_voc / "ImageSets/Segmentation/val.txt").write_text("\n".join(reversed(ids)))
    with pytest.raises(InputError, match="made with ids_sha256"):
        extract(voc, "val", config, out, CPU)
    assert out.read_bytes() == before


def test_a_clock_that_runs_backwards_changes_no_training(
    tmp_path, caches, config, run_folder, monkeypatch
):
    clock = iter(range(2_000_000_000, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    made = train(FeatureCache(caches["train"]), config, 0, tmp_path / "run", CPU)
    assert made["seconds"] >= 0 and made["images_per_second"] > 0
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == (run_folder / WEIGHTS).read_bytes()

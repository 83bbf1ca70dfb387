"""What only a GPU can show; skipped without one."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CPU, SMALL
from PIL import Image

from mmqsa.config.workflow import Config
from mmqsa.device import choose_device
from mmqsa.discover import load
from mmqsa.evaluation.agreement import score_agreement
from mmqsa.evaluation.evaluate import evaluate
from mmqsa.features import resident
from mmqsa.features.cache import FeatureCache
from mmqsa.model.masked_slot_model import MaskedSlotModel
from mmqsa.training.loop import train
from mmqsa.training.run import Run
from mmqsa.training.step import GraphedStep, Step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]
GPU = torch.device("cuda")


def altered(**training) -> Config:
    return Config.model_validate({**SMALL, "training": {**SMALL["training"], **training}})


def test_a_run_trains_and_is_scored_on_the_gpu(tmp_path, caches, config):
    done = train(FeatureCache(caches["train"]), config, 0, tmp_path, GPU)
    assert (
        done["precision"] == "bf16" and done["device"] != "cpu" and done["features_in"] == "device"
    )
    scoring = config.changed("test", {"matching": {"strategies": ["hungarian", "joined"]}})
    evaluate(Run.load(tmp_path), FeatureCache(caches["val"]), scoring, tmp_path / "m", GPU)
    assert (tmp_path / "m/scenes-val.csv").exists()


def test_one_run_gives_the_same_masks_on_both_devices(run_folder, caches):
    features = torch.from_numpy(FeatureCache(caches["val"]).features[:])
    model = Run.load(run_folder).model
    noise = model.noise(len(features), torch.Generator().manual_seed(0))
    masks = []
    for device in (CPU, GPU):
        model.to(device)
        with torch.inference_mode():
            merged = model.segment(features.to(device), noise.to(device), sources=["attention"])
        masks.append(merged["attention"].cpu())
    torch.testing.assert_close(*masks, atol=1e-3, rtol=1e-3)


def test_discovery_gives_the_same_objects_on_both_devices(tmp_path, run_folder, voc_root, caches):
    paths = sorted((voc_root / "VOC2012/JPEGImages").glob("*.jpg"))[:3]
    images = [Image.open(path) for path in paths]
    both = load(run_folder, "cpu")(images), load(run_folder, "cuda")(images)
    for one, two in zip(*both, strict=True):
        assert np.mean(one.labels == two.labels) > 0.98
    cache = FeatureCache(caches["val"])
    path = score_agreement(Run.load(run_folder), cache, tmp_path, GPU)
    assert pd.read_csv(path)["after"].between(-1, 1.001).all()


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_step_waits_for_nothing(precision):
    model = MaskedSlotModel(altered().model, 36, 8).to(GPU)
    step = Step(model, altered().training, precision, GPU)
    generator, features = torch.Generator(GPU), torch.randn(4, 36, 8, device=GPU)
    try:
        for mode in ("default", "error"):  # first without: libraries load
            torch.cuda.set_sync_debug_mode(mode)
            step(features, [1], model.draw(4, generator), 1e-3)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_graphs_train_as_plain_steps_do():
    """The same draws, 60 steps over three heads: the same losses up to rounding."""
    losses = []
    for graphs in (False, True):
        config = altered(cuda_graphs=graphs).training
        torch.manual_seed(0)
        model = MaskedSlotModel(altered().model, 36, 8).to(GPU)
        step = (GraphedStep if graphs else Step)(model, config, "fp32", GPU)
        generator = torch.Generator(GPU).manual_seed(0)
        features = torch.randn(2, 4, 36, 8, generator=generator, device=GPU).half()
        losses.append(
            [
                step(batch.clone(), [turn % 3], model.draw(4, generator), 1e-3 * (1 - turn / 60))
                for turn, batch in enumerate(features.repeat(30, 1, 1, 1))
            ]
        )
    plain, graphed = (torch.stack(values) for values in losses)
    torch.testing.assert_close(plain, graphed, atol=1e-4, rtol=1e-3)
    assert plain[-6:].mean() < plain[:6].mean()


@pytest.mark.parametrize(
    "options", [{"cuda_graphs": True}, {"compile": True}], ids=["graphs", "compile"]
)
def test_a_killed_training_resumes_with_every_option(tmp_path, caches, train_until, options):
    config = altered(checkpoint_seconds=1e-9, precision="fp32", **options)
    cache = FeatureCache(caches["train"])
    whole = train(cache, config, 0, tmp_path / "whole", GPU)
    train_until(17, cache, config, 0, tmp_path / "killed", GPU)
    again = train(cache, config, 0, tmp_path / "killed", GPU)
    assert again["final_loss"] == pytest.approx(whole["final_loss"], rel=1e-2)


@pytest.mark.parametrize("free", [1e18, 0])
def test_features_come_from_elsewhere_when_the_gpu_is_full(tmp_path, caches, monkeypatch, free):
    monkeypatch.setattr(
        resident, "free_memory", lambda device: 0 if device.type == "cuda" else free
    )
    done = train(FeatureCache(caches["train"]), altered(), 0, tmp_path, GPU)
    assert done["features_in"] == ("memory" if free else "file")


def test_a_gpu_is_held_while_this_process_lives():
    assert choose_device("auto").type == "cuda"

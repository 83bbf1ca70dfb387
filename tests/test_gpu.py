"""What only a GPU can show; skipped without one."""

import pytest
import torch
from conftest import CPU

from mmqsa.evaluation.evaluate import evaluate
from mmqsa.features.store import FeatureCache
from mmqsa.training.loop import train
from mmqsa.training.run import Run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]
GPU = torch.device("cuda")


def test_a_run_trains_and_is_scored_on_the_gpu(tmp_path, caches, settings):
    done = train(FeatureCache(caches["train"]), settings, 0, tmp_path, GPU)
    assert done["precision"] == "bf16" and done["device"] != "cpu"
    evaluate(Run.load(tmp_path), FeatureCache(caches["val"]), settings, tmp_path / "m", GPU)
    assert (tmp_path / "m/scenes-val.csv").exists()


def test_one_run_gives_the_same_masks_on_both_devices(run_folder, caches):
    keys = torch.from_numpy(FeatureCache(caches["val"]).keys[:])
    model = Run.load(run_folder).model
    noise = model.noise(len(keys), torch.Generator().manual_seed(0))
    found = []
    for device in (CPU, GPU):
        model.to(device).noise = lambda batch, generator, device=device: noise.to(device)
        with torch.inference_mode():
            heads = model.run_heads(keys.to(device), torch.Generator(device))
            reference = torch.zeros(len(keys), dtype=torch.int64, device=device)
            found.append(model.discover(heads, reference, "hungarian").attention.cpu())
    torch.testing.assert_close(found[0], found[1], atol=1e-3, rtol=1e-3)

import json
import shutil

import pytest
import torch
from conftest import CPU

from mmqsa.config.evaluation import SimilarityConfig
from mmqsa.errors import InputError
from mmqsa.features.cache import FeatureCache
from mmqsa.training.run import Run
from mmqsa.training.similarity import train_similarity


@pytest.fixture
def folder(tmp_path, run_folder):
    shutil.copytree(run_folder, tmp_path / "run")
    return tmp_path / "run"


def test_it_lowers_the_loss_and_leaves_the_run_as_it_was(folder, caches):
    before = (folder / "model.safetensors").read_bytes()
    cache, config = FeatureCache(caches["train"]), SimilarityConfig(steps=60, batch_size=8)
    first, last = train_similarity(Run.load(folder), cache, config, folder, CPU)
    assert last < first
    assert (folder / "model.safetensors").read_bytes() == before
    run = Run.load(folder)
    assert run.similarity.shape == (16, 16)
    assert not torch.allclose(run.similarity, torch.eye(16))
    assert json.loads((folder / "similarity.json").read_text())["steps"] == 60


def test_it_is_seeded(folder, caches):
    cache, config = FeatureCache(caches["train"]), SimilarityConfig(steps=3, batch_size=4)
    learned = []
    for _ in range(2):
        train_similarity(Run.load(folder), cache, config, folder, CPU)
        learned.append((folder / "similarity.safetensors").read_bytes())
    assert learned[0] == learned[1]


def test_one_head_has_nothing_to_match(folder, caches):
    run = Run.load(folder)
    run.model.num_heads = 1
    with pytest.raises(InputError, match="has one head, so there is nothing to match"):
        train_similarity(run, FeatureCache(caches["train"]), SimilarityConfig(steps=1), folder, CPU)


def test_a_loss_that_is_not_finite_writes_nothing(folder, caches):
    run = Run.load(folder)
    with torch.no_grad():
        run.model.decoder.position.fill_(torch.nan)
    with pytest.raises(InputError, match=r"not finite; lower matching.similarity.learning_rate"):
        train_similarity(run, FeatureCache(caches["train"]), SimilarityConfig(steps=2), folder, CPU)
    assert not (folder / "similarity.safetensors").exists()

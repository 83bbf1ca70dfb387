import json
import shutil

import pytest
import torch
from conftest import CPU

from mmqsa.config.evaluation import FusionConfig, SimilarityConfig
from mmqsa.errors import InputError
from mmqsa.features.cache import FeatureCache
from mmqsa.training.learned_merging import train_merging
from mmqsa.training.run import Run


@pytest.fixture
def folder(tmp_path, run_folder):
    shutil.copytree(run_folder, tmp_path / "run")
    return tmp_path / "run"


def test_it_lowers_the_loss_and_leaves_the_run_as_it_was(folder, caches):
    before = (folder / "model.safetensors").read_bytes()
    cache, config = FeatureCache(caches["train"]), SimilarityConfig(steps=60, batch_size=8)
    first, last = train_merging(Run.load(folder), cache, config, folder, CPU)
    assert last < first
    assert (folder / "model.safetensors").read_bytes() == before
    run = Run.load(folder)
    assert run.similarity.shape == (16, 16)
    assert not torch.allclose(run.similarity, torch.eye(16))
    assert json.loads((folder / "similarity.json").read_text())["steps"] == 60


def test_a_fusion_lowers_the_loss_and_is_the_runs(folder, caches):
    cache, config = FeatureCache(caches["train"]), FusionConfig(steps=60, hidden_dim=8)
    first, last = train_merging(Run.load(folder), cache, config, folder, CPU)
    assert last < first
    run, fusion = Run.load(folder), Run.load(folder).fusion
    assert fusion.first.weight.shape == (8, 3 * 16) and fusion.last.weight.abs().sum() > 0
    assert run.merging(0.3).fusion is run.fusion and run.merging(0.3).alike == 0.3
    assert run.similarity is None


@pytest.mark.parametrize("kind", [SimilarityConfig, FusionConfig])
def test_it_is_seeded(folder, caches, kind):
    cache, config = FeatureCache(caches["train"]), kind(steps=3, batch_size=4)
    name = "fusion" if kind is FusionConfig else "similarity"
    learned = []
    for again in (False, True):
        train_merging(Run.load(folder), cache, config, folder, CPU, overwrite=again)
        learned.append((folder / f"{name}.safetensors").read_bytes())
    assert learned[0] == learned[1]


@pytest.mark.faults
@pytest.mark.parametrize("kind", [SimilarityConfig, FusionConfig])
def test_one_that_was_learned_otherwise_stays(folder, caches, capsys, kind):
    cache, config = FeatureCache(caches["train"]), kind(steps=3, batch_size=4)
    name = "fusion" if kind is FusionConfig else "similarity"
    losses = train_merging(Run.load(folder), cache, config, folder, CPU)
    path, record = folder / f"{name}.safetensors", folder / f"{name}.json"
    before = path.read_bytes()
    again = train_merging(Run.load(folder), cache, config, folder, CPU)
    assert again == pytest.approx(losses, abs=1e-6)
    assert "already learned with these settings" in capsys.readouterr().err
    other, another = kind(steps=4, batch_size=4), FeatureCache(caches["val"])
    for features, changed, said in (
        (cache, other, rf"{name}.safetensors: was learned with steps = 3, not 4; give --over"),
        (another, config, r"was learned with cache_fingerprint = "),
    ):
        with pytest.raises(InputError, match=said):
            train_merging(Run.load(folder), features, changed, folder, CPU)
    assert path.read_bytes() == before
    record.write_text('{"steps": 3}')
    with pytest.raises(InputError, match=rf"{name}.json: first_loss: Field required"):
        train_merging(Run.load(folder), cache, config, folder, CPU)
    (folder / "metrics").mkdir()
    train_merging(Run.load(folder), cache, other, folder, CPU, overwrite=True)
    assert path.read_bytes() != before and not (folder / "metrics").exists()


def test_one_head_has_nothing_to_match(folder, caches):
    run = Run.load(folder)
    run.model.num_heads = 1
    with pytest.raises(InputError, match="has one head, so there is nothing to match"):
        train_merging(run, FeatureCache(caches["train"]), SimilarityConfig(steps=1), folder, CPU)


def test_a_loss_that_is_not_finite_writes_nothing(folder, caches):
    run = Run.load(folder)
    with torch.no_grad():
        run.model.decoder.position.fill_(torch.nan)
    with pytest.raises(InputError, match=r"not finite; lower matching.similarity.learning_rate"):
        train_merging(run, FeatureCache(caches["train"]), SimilarityConfig(steps=2), folder, CPU)
    assert not (folder / "similarity.safetensors").exists()

import pytest
import torch
import yaml
from conftest import SMALL

from mmqsa.config.training import RunConfig
from mmqsa.errors import InputError
from mmqsa.features.cache import FeatureCache
from mmqsa.training.run import Run


def test_the_config_on_disk_is_what_the_run_depends_on(run_folder, config):
    written = yaml.safe_load((run_folder / "config.yaml").read_text())
    expected = RunConfig.model_validate(
        {name: SMALL[name] for name in ("dataset", "backbone", "slots", "decoder", "training")}
    )
    assert written == expected.dependencies()
    assert "evaluation" not in written and "train_split" in written["dataset"]
    assert Run.load(run_folder).config.dependencies() == written


def test_what_is_saved_is_what_is_loaded(run_folder, tmp_path):
    run = Run.load(run_folder)
    run.save(tmp_path, [[10, 1.5, 4e-4, 99.95]], {})
    again = Run.load(tmp_path)
    assert again.config == run.config and again.provenance == run.provenance
    pairs = zip(run.model.state_dict().items(), again.model.state_dict().items(), strict=True)
    assert all(one[0] == two[0] and torch.equal(one[1], two[1]) for one, two in pairs)
    assert again.similarity is None and not again.model.training
    last = (tmp_path / "history.csv").read_text().splitlines()[-1]
    assert last == "10,1.500000,4.000e-04,100.0" or last == "10,1.500000,4.000e-04,99.9"


def test_a_cache_of_another_backbone_is_refused(run_folder, caches):
    run, cache = Run.load(run_folder), FeatureCache(caches["val"])
    run.check_cache(cache)
    run.provenance["cache"]["weights_sha256"] = "other"
    with pytest.raises(InputError, match=r"val\.h5: made with weights_sha256.*the trained run"):
        run.check_cache(cache)


def test_a_run_with_a_swapped_config_is_refused(tmp_path, run_folder):
    for name in ("model.safetensors", "config.yaml", "provenance.json"):
        (tmp_path / name).write_bytes((run_folder / name).read_bytes())
    text = (tmp_path / "config.yaml").read_text().replace("num_heads: 3", "num_heads: 2")
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=r"model.safetensors: does not fit .*config.yaml"):
        Run.load(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match="missing"):
        Run.load(tmp_path)

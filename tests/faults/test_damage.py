"""Files that are cut short: the stage that meets one names it, and goes on once it is restored."""

import pytest
from stages import mmqsa, refused, write_config

from mmqsa.data.voc import VocFolder
from mmqsa.features.cache import FeatureCache

pytestmark = pytest.mark.faults


def test_a_photograph_of_zero_bytes(tmp_path, own_voc, config):
    file = write_config(tmp_path / "config.yaml", config, backbone={"batch_size": 1})
    voc, out = VocFolder.find(own_voc), tmp_path / "train.h5"
    path = voc.image_path(voc.ids("train")[1])
    content = path.read_bytes()
    path.write_bytes(b"")
    command = ["extract", "--data", own_voc, "--split", "train", "--config", file, "--out", out]
    line = refused(mmqsa(*command))
    assert f"{path}: cannot be decoded" in line and "restore the file" in line
    assert not out.exists()
    path.write_bytes(content)
    done = mmqsa(*command)
    assert not done.returncode, done.stderr
    assert len(FeatureCache(out).ids) == 3


@pytest.mark.parametrize("stage", ["train", "evaluate", "controls"])
def test_a_cache_cut_short(tmp_path, caches, config, run_folder, stage):
    path = tmp_path / "cut.h5"
    content = caches["val"].read_bytes()
    path.write_bytes(content[: len(content) // 2])
    command = [stage, "--features", path, "--out", tmp_path / "out"]
    command += ["--run", run_folder] if stage == "evaluate" else []
    line = refused(mmqsa(*command))
    assert "cut.h5: not a readable feature cache" in line and "delete it and run" in line
    assert not (tmp_path / "out").exists()


def test_an_unfinished_cache_cut_short(tmp_path, voc_root, caches, config):
    file = write_config(tmp_path / "config.yaml", config)
    partial = tmp_path / "val.h5.partial"
    partial.write_bytes(caches["val"].read_bytes()[:3000])
    command = ["extract", "--data", voc_root, "--split", "val", "--config", file]
    command += ["--out", tmp_path / "val.h5"]
    assert "val.h5.partial: damaged" in refused(mmqsa(*command))
    partial.unlink()
    assert not mmqsa(*command).returncode

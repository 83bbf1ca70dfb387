"""kill -9 at any moment, then the same command again: it completes, with the same numbers."""

import subprocess
import sys

import numpy as np
import pytest
from stages import ENVIRONMENT, killed, mmqsa, refused, write_config

from mmqsa.features.cache import FeatureCache

pytestmark = pytest.mark.faults
WRITER = "mmqsa.features.cache_writer:CacheWriter"


def arrays(path) -> dict[str, np.ndarray]:
    cache = FeatureCache(path)
    names = ("features", "classes", "instances", "image_id", "boxes", "box_image")
    return {name: cache._file[name][:] for name in names}


def test_extraction(tmp_path, voc_root, config, caches):
    file = write_config(tmp_path / "config.yaml", config, backbone={"batch_size": 2})
    command = ["extract", "--data", voc_root, "--split", "train", "--config", file]
    whole, broken = tmp_path / "whole.h5", tmp_path / "broken.h5"
    assert not mmqsa(*command, "--out", whole).returncode
    command += ["--out", broken]
    killed(f"{WRITER}.write", 1, "before", *command)  # nothing is there but the empty file
    killed(f"{WRITER}._labels", 3, "after", *command)  # features of a batch, not its labels
    killed(f"{WRITER}._append", 2, "after", *command)  # boxes of an image, not yet `done`
    killed(f"{WRITER}.write", 1, "after", *command)
    killed(f"{WRITER}.finish", 1, "before", *command)
    assert not broken.exists()
    done = mmqsa(*command)
    assert not done.returncode, done.stderr
    assert "0 images" not in done.stdout
    found, expected = arrays(broken), arrays(whole)
    for name in ("features", "classes", "instances", "image_id"):
        np.testing.assert_array_equal(found[name], expected[name])
    order = [np.lexsort([*own["boxes"].T, own["box_image"]]) for own in (found, expected)]
    for name in ("boxes", "box_image"):
        np.testing.assert_array_equal(found[name][order[0]], expected[name][order[1]])


def test_evaluation(tmp_path, run_folder, caches, config):
    file = write_config(tmp_path / "config.yaml", config, matching={"strategies": ["hungarian"]})
    command = ["evaluate", "--run", run_folder, "--features", caches["val"], "--config", file]
    assert not mmqsa(*command, "--out", tmp_path / "whole").returncode
    command += ["--out", tmp_path / "broken"]
    killed("mmqsa.evaluation.scoring:Scorer.add", 2, "after", *command)
    killed("os:link", 2, "after", *command)  # two of three files have their names
    done = mmqsa(*command)
    assert not done.returncode, done.stderr
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert sorted(path.name for path in (tmp_path / "broken").glob("[!.]*")) == names
    for name in names:
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_two_extractions_into_one_cache(tmp_path, voc_root, config, caches):
    """The second says so and leaves; the first is not disturbed."""
    file = write_config(tmp_path / "config.yaml", config)
    command = ["extract", "--data", voc_root, "--split", "train", "--config", file]
    command += ["--out", tmp_path / "train.h5"]
    # The first waits for a line on its standard input before it stores its first batch.
    waits = """
import sys
from mmqsa.cli import main
from mmqsa.features.cache_writer import CacheWriter
real = CacheWriter.write
def write(*arguments):
    print("open", flush=True)
    sys.stdin.readline()
    real(*arguments)
CacheWriter.write = write
main()
"""
    first = subprocess.Popen(
        [sys.executable, "-c", waits, *map(str, command)],
        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE},
        env=ENVIRONMENT,
        text=True,
    )
    assert first.stdout.readline() == "open\n"
    line = refused(mmqsa(*command))
    assert "train.h5: another process is at work on it; wait for it" in line
    _, errors = first.communicate("go\n" * 9)
    assert not first.returncode, errors
    np.testing.assert_allclose(
        FeatureCache(tmp_path / "train.h5").features[:],
        FeatureCache(caches["train"]).features[:],
        atol=2e-3,
    )

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from conftest import CPU, SMALL

from mmqsa.config.files import dump_yaml
from mmqsa.features import resident
from mmqsa.features.cache import FeatureCache
from mmqsa.features.resident import ResidentFeatures
from mmqsa.training.loop import train
from mmqsa.training.run import Run


def test_mapped_features_are_the_resident_ones(caches, monkeypatch):
    cache, indices = FeatureCache(caches["train"]), torch.tensor([5, 0, 5, 2])
    held = ResidentFeatures(cache, CPU)
    assert held.where == "device"
    expected = torch.from_numpy(cache.features[:])[indices]
    assert torch.equal(held.take(indices), expected)
    monkeypatch.setattr(resident, "SHARE", 0.0)
    mapped = ResidentFeatures(cache, CPU)
    assert mapped.where == "file"
    assert torch.equal(mapped.take(indices), expected)


def test_where_the_features_are_changes_no_bit(tmp_path, caches, config, run_folder, monkeypatch):
    monkeypatch.setattr(resident, "SHARE", 0.0)
    done = train(FeatureCache(caches["train"]), config, 0, tmp_path, CPU)
    assert done["features_in"] == "file"
    first, second = (Run.load(folder).model.state_dict() for folder in (tmp_path, run_folder))
    assert all(torch.equal(first[name], second[name]) for name in first)


LIMITED = """
import resource, sys
import mmqsa.training.loop, mmqsa.cli, torch._dynamo  # as torch.optim does, late
status = open("/proc/self/status").read()
used = int(status.partition("VmData:")[2].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[1]),) * 2)
try:
    bytearray(2 * int(sys.argv[1]))
except MemoryError:
    print("limited")
sys.argv = ["mmqsa", *sys.argv[2:]]
mmqsa.cli.main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA covers all data on Linux alone")
def test_a_cache_ten_times_larger_than_memory_trains(tmp_path, caches):
    limit = 96 << 20  # what a step of any size needs fits well within
    path = tmp_path / "large.h5"
    # As FeatureCache opens it: HDF5 refuses another way while a test before holds one open.
    with h5py.File(caches["train"], locking=False) as small, h5py.File(path, "w") as file:
        own = small["features"][:]
        images = 1 + 10 * limit // own[0].nbytes
        file.attrs.update(small.attrs)
        # Sparse on disk: only the first rows are written, the others read as zeros.
        file.create_dataset("features", (images, *own.shape[1:]), "f2")[: len(own)] = own
        file.create_dataset("done", data=np.ones(images, dtype=bool))
        file.create_dataset("image_id", data=np.arange(images).astype("S"))
    assert path.stat().st_size > 10 * limit
    (tmp_path / "config.yaml").write_text(dump_yaml(SMALL))
    arguments = ["train", "--features", path, "--config", tmp_path / "config.yaml"]
    arguments += ["--out", tmp_path / "run", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("limited")
    assert Run.load(tmp_path / "run").provenance["features_in"] == "file"

"""A full disk, and one that may not be written to: one line, then the same command goes on."""

import numpy as np
import pytest
import torch
from project import ARGUMENTS, copy_project, snakemake
from safetensors.torch import load_file
from stages import mmqsa, refused, remount, small_disk, write_config

from mmqsa.errors import MachineError
from mmqsa.features.cache import FeatureCache

pytestmark = pytest.mark.faults


@pytest.fixture
def disk(tmp_path):
    """A file system of 300 KB."""
    with small_disk(tmp_path / "disk", "300k") as folder:
        yield folder


def test_extraction_onto_a_full_disk(disk, tmp_path, voc_root, config, caches):
    file = write_config(tmp_path / "config.yaml", config, backbone={"batch_size": 2})
    command = ["extract", "--data", voc_root, "--split", "train", "--config", file]
    command += ["--out", disk / "train.h5"]
    remount(disk, "size=160k")
    line = refused(mmqsa(*command), MachineError)
    assert "train.h5.partial: cannot be written" in line and "No space left" in line
    remount(disk, "size=20m")
    done = mmqsa(*command)
    assert not done.returncode, done.stderr
    np.testing.assert_allclose(
        FeatureCache(disk / "train.h5").features[:],
        FeatureCache(caches["train"]).features[:],
        atol=2e-3,
    )


def test_training_onto_a_full_disk(disk, tmp_path, config, caches, run_folder):
    often = {"checkpoint_seconds": 1e-9}
    file = write_config(tmp_path / "config.yaml", config, training=often)
    command = ["train", "--features", caches["train"], "--config", file, "--out", disk / "run"]
    filler = disk / "filler"
    filler.write_bytes(b"x" * 250_000)
    line = refused(mmqsa(*command), MachineError)
    assert line == f"mmqsa: {disk}/run/resume.pt: No space left on device"
    assert not [path for path in (disk / "run").iterdir() if path.stat().st_size]  # no half of it
    filler.unlink()
    remount(disk, "size=20m")
    assert not mmqsa(*command).returncode
    one, two = (load_file(run / "model.safetensors") for run in (disk / "run", run_folder))
    assert all(torch.equal(one[name], two[name]) for name in one.keys() | two.keys())


def test_evaluation_onto_a_full_disk(disk, tmp_path, config, caches, run_folder):
    file = write_config(tmp_path / "config.yaml", config, matching={"strategies": ["hungarian"]})
    command = ["evaluate", "--run", run_folder, "--features", caches["val"], "--config", file]
    command += ["--out", disk / "metrics"]
    (disk / "filler").write_bytes(b"x" * 300_000)
    assert refused(mmqsa(*command), MachineError).endswith("No space left on device")
    (disk / "filler").unlink()
    assert not mmqsa(*command).returncode


def test_a_read_only_folder(disk, tmp_path, voc_root, config, caches, run_folder):
    file = write_config(tmp_path / "config.yaml", config)
    remount(disk, "ro")
    out = disk / "out"
    for command in (
        (
            "extract",
            "--data",
            voc_root,
            "--split",
            "val",
            "--config",
            file,
            "--out",
            out / "v.h5",
        ),
        ("train", "--features", caches["train"], "--config", file, "--out", out),
        ("evaluate", "--run", run_folder, "--features", caches["val"], "--out", out),
        ("controls", "--features", caches["val"], "--out", out),
        ("scenes", "--out", out),
    ):
        line = refused(mmqsa(*command), MachineError)
        assert str(disk) in line and "Read-only file system" in line


def test_a_new_project_on_a_full_or_read_only_disk(disk):
    """It is named, and nothing is left; once there is room, the same command writes it."""
    (disk / "filler").write_bytes(b"x" * 250_000)
    for folder in (disk, disk / "new" / "study"):
        line = refused(mmqsa("init", folder), MachineError)
        assert line == f"mmqsa: {folder}: No space left on device"
    remount(disk, "ro")
    line = refused(mmqsa("init", disk / "study"), MachineError)
    assert line == f"mmqsa: {disk}/study: Read-only file system"
    remount(disk, "rw,size=20m")
    assert [path.name for path in disk.iterdir()] == ["filler"]
    assert not mmqsa("init", disk).returncode and (disk / "Snakefile").is_file()


@pytest.mark.workflow
def test_a_read_only_results_folder_stops_the_pipeline(tmp_path):
    folder = copy_project(tmp_path / "project")
    with small_disk(folder / "results", "1m"):
        remount(folder / "results", "ro")
        done = snakemake(folder, *ARGUMENTS, check=False)
        assert done.returncode
        assert "Read-only file system" in done.stdout + done.stderr

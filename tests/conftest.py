"""Fixtures: a handful of scenes, their caches and one small trained run, made once a session."""

import os
import sys
from pathlib import Path

import hypothesis
import pytest
import torch
from made import Made

from mmqsa.cli.entry import main
from mmqsa.config.workflow import Config
from mmqsa.data.scenes import write_scenes
from mmqsa.data.voc import VocFolder
from mmqsa.features.cache import FeatureCache
from mmqsa.features.extract import extract
from mmqsa.training.loop import train

pytest_plugins = ["shown_page"]
SMALL = {
    "dataset": {"kind": "scenes", "name": "scenes", "train_split": "train"},
    "backbone": {
        "name": "vit_tiny_patch16_224",
        "pretrained": False,
        "image_size": 96,
        "blocks": [0],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
    "slots": {"num_slots": 4, "num_heads": 3, "slot_dim": 16, "mlp_dim": 16, "encoder_dim": 16},
    "decoder": {"hidden_dim": 16, "layers": 2},
    "training": {
        "steps": 30,
        "batch_size": 4,
        "log_every": 10,
        "schedule": {"kind": "constant", "warmup_steps": 3},
    },
    "evaluation": {"kmeans_clusters": [2, 4], "batch_size": 4},
}
# A busy machine is no fault of the code under test.
hypothesis.settings.register_profile("mmqsa", deadline=None)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=2000)
hypothesis.settings.load_profile("mmqsa")
CPU = torch.device("cpu")


def pytest_configure():
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Processes of many threads each would wait for one another.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """The longest first: `make test` gives whole files to several processes."""
    longest = ("test_slurm.py", "test_workflow.py", "test_coco.py", "test_benchmarks.py")
    items.sort(key=lambda item: item.path.name not in longest)


@pytest.fixture(scope="session")
def config() -> Config:
    return Config.model_validate(SMALL)


@pytest.fixture(scope="session")
def voc_root(tmp_path_factory, config) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    small = config.dataset.scenes.model_copy(update={"train": 8, "val": 6, "side": 96})
    write_scenes(small, root)
    return root


@pytest.fixture
def own_voc(tmp_path, config) -> Path:
    """A folder of scenes that the test may damage."""
    root = tmp_path / "voc"
    write_scenes(config.dataset.scenes.model_copy(update={"train": 3, "val": 2, "side": 64}), root)
    return root / "VOC2012"


@pytest.fixture(scope="session")
def caches(tmp_path_factory, voc_root, config) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("features")
    for split in ("train", "val"):
        extract(VocFolder.find(voc_root), split, config, folder / f"{split}.h5", CPU)
    return {split: folder / f"{split}.h5" for split in ("train", "val")}


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory, caches, config) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(FeatureCache(caches["train"]), config, 0, folder, CPU)
    return folder


@pytest.fixture
def mmqsa(monkeypatch, capsys):
    """Runs a command in this process: its exit code, and what it prints."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["mmqsa", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


def from_environment(name: str) -> str:
    """The path in an environment variable; without it the test is skipped."""
    if not os.environ.get(name):
        pytest.skip(f"{name} not set: no real photographs or weights")
    return os.environ[name]


@pytest.fixture
def train_until():
    """``train_until(step, …)``: as ``train(…)``, but interrupted before that step (0-based)."""

    def run(last: int, *arguments) -> None:
        def interrupt(step: int) -> None:
            if step == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(*arguments, on_step=interrupt)

    return run


@pytest.fixture
def made(tmp_path) -> Made:
    """A results folder for the tests of reporting to fill."""
    return Made(tmp_path)

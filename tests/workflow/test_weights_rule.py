"""Weights that timm downloads: a job of their own, and extractions that need no network."""

import json
import os

import pytest
import timm
import torch
import yaml
from project import ARGUMENTS, copy_project, planned, snakemake
from safetensors.torch import save_file

from mmqsa.features.weights import state_sha256

pytestmark = pytest.mark.workflow

NAME = "test_vit.r160_in1k"
FILE = f"resources/weights/{NAME}.safetensors"
CACHE = "results/demo/features/scenes/val.h5"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A folder of the Hub's client that holds timm's file: a stand-in for the download."""
    home = tmp_path_factory.mktemp("hub")
    torch.manual_seed(1)
    state = timm.create_model(NAME).state_dict()
    repository, revision = home / "hub" / f"models--timm--{NAME}", "0" * 40
    (repository / "snapshots" / revision).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(revision)
    save_file(state, repository / "snapshots" / revision / "model.safetensors")
    return home


def test_extraction_gets_the_weights_of_the_job_and_needs_no_network(hub, tmp_path):
    folder = copy_project(tmp_path)
    changes = {"backbone": {"name": NAME, "pretrained": True}, "scheduling": {"worker": False}}
    (folder / "pretrained.yaml").write_text(yaml.safe_dump(changes))
    arguments = [*ARGUMENTS, "pretrained.yaml", "--"]
    unreachable = {**os.environ, "HF_HOME": str(tmp_path / "empty"), "HF_HUB_OFFLINE": "1"}

    snakemake(folder, *arguments, FILE, env=unreachable | {"HF_HOME": str(hub)})
    snakemake(folder, *arguments, CACHE, env=unreachable)
    made = json.loads((folder / CACHE).with_suffix(".json").read_text())
    torch.manual_seed(1)
    network = timm.create_model(NAME)
    network.reset_classifier(0)
    assert made["weights_sha256"] == state_sha256(network.state_dict())

    # A whole cache needs no weights: neither touched nor removed do they start anything.
    (folder / FILE).touch()
    assert planned(snakemake(folder, "-n", *arguments, CACHE)) == {}
    (folder / FILE).unlink()
    assert planned(snakemake(folder, "-n", *arguments, CACHE)) == {}
    (folder / CACHE).unlink()
    assert planned(snakemake(folder, "-n", *arguments, CACHE)) == {"weights": 1, "extract": 1}

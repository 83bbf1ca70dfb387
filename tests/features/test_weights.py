"""Weights that timm downloads, in a file for extractions without network."""

import pytest
import timm
import torch
from conftest import CPU
from safetensors.torch import load_file, save_file

from mmqsa.config.data import BackboneConfig
from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError
from mmqsa.features.backbone import load_backbone, native_network
from mmqsa.features.cache import FeatureCache
from mmqsa.features.extract import extract
from mmqsa.features.weights import fetch_weights

CONFIG = BackboneConfig(name="test_vit.r160_in1k", image_size=96)
REAL = timm.create_model


@pytest.fixture
def online(monkeypatch):
    """timm with a stand-in for its download: random weights of another seed."""

    def create(name, pretrained=False, **options):
        network = REAL(name, pretrained=False, **options)
        if pretrained:
            torch.manual_seed(7)
            network.init_weights()
        return network

    monkeypatch.setattr(timm, "create_model", create)


def go_offline(monkeypatch):
    def create(name, pretrained=False, **options):
        assert not pretrained, "asked timm for a download"
        return REAL(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", create)


def fetch(config, out):
    return fetch_weights(config, native_network(config), out)


@pytest.fixture
def fetched(online, tmp_path):
    path = tmp_path / "weights" / f"{CONFIG.name}.safetensors"
    assert fetch(CONFIG, path)
    return path


def test_what_was_fetched_has_the_identity_and_the_features_of_timms(fetched, monkeypatch):
    timms = load_backbone(CONFIG)
    go_offline(monkeypatch)
    ours = load_backbone(CONFIG, fetched)
    assert ours.weights_sha256 == timms.weights_sha256 == timms.state_sha256
    images = torch.randn(1, 3, 96, 96)
    assert torch.equal(ours.features(images), timms.features(images))
    assert not fetch(CONFIG, fetched)  # there already


def test_caches_with_and_without_the_file_are_one(fetched, monkeypatch, voc_root, config, tmp_path):
    config = config.model_copy(update={"backbone": CONFIG})
    voc, out = VocFolder.find(voc_root), tmp_path / "val.h5"
    assert extract(voc, "val", config, out, CPU) == 6
    go_offline(monkeypatch)
    assert extract(voc, "val", config, out, CPU, fetched=fetched) == 0
    assert extract(voc, "val", config, tmp_path / "own.h5", CPU, fetched=fetched) == 6
    assert FeatureCache(out).attributes == FeatureCache(tmp_path / "own.h5").attributes


@pytest.mark.faults
@pytest.mark.parametrize("change", [{"weights": "my.pth"}, {"pretrained": False}])
def test_a_config_that_needs_no_download_says_so(fetched, change):
    config = CONFIG.model_copy(update=change)
    key = f"backbone.{next(iter(change))}"
    with pytest.raises(InputError, match=rf"{key}: .* nothing to fetch"):
        fetch(config, fetched)
    with pytest.raises(InputError, match=rf"--weights: {key} says which weights to use; drop one"):
        load_backbone(config, fetched)


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def of_another(path):
    fetch(CONFIG.model_copy(update={"name": "test_vit2.r160_in1k"}), path)


DAMAGE = {
    "flipped": (flipped, "damaged .*; delete it and fetch it again"),
    "cut": (
        lambda path: path.write_bytes(path.read_bytes()[:999]),
        "no whole file of .*, else delete it",
    ),
    "empty": (lambda path: path.write_bytes(b""), "no whole file of .*, else delete it"),
    "of one's own": (
        lambda path: save_file(load_file(path), path),
        "not written by `mmqsa weights`; it stays: name a file of your own in backbone.weights",
    ),
    "of another network": (
        lambda path: (path.unlink(), of_another(path)),
        "holds the weights of test_vit2.r160_in1k, not of test_vit.r160_in1k; it stays",
    ),
}


@pytest.mark.faults
@pytest.mark.parametrize("kind", DAMAGE)
def test_another_file_in_its_place_is_refused_and_stays(fetched, kind):
    damage, said = DAMAGE[kind]
    damage(fetched)
    content = fetched.read_bytes()
    for use in (lambda: fetch(CONFIG, fetched), lambda: load_backbone(CONFIG, fetched)):
        with pytest.raises(InputError, match=said):
            use()
    assert fetched.read_bytes() == content
    if "it stays" in said:
        named = CONFIG.model_copy(update={"weights": str(fetched)})
        if kind == "of one's own":
            load_backbone(named)
        return
    fetched.unlink()
    assert fetch(CONFIG, fetched)


@pytest.mark.faults
def test_refused_before_anything_is_fetched(fetched, tmp_path):
    with pytest.raises(InputError, match=r"none.safetensors: no such file; .*`mmqsa weights`"):
        load_backbone(CONFIG, tmp_path / "none.safetensors")
    with pytest.raises(InputError, match=r"w.pth: weights are called NAME.safetensors"):
        fetch(CONFIG, tmp_path / "w.pth")
    for name, said in (("resnet18", "not a ViT"), ("vit_tinny", "timm knows no 'vit_tinny'")):
        with pytest.raises(InputError, match=said):
            fetch(CONFIG.model_copy(update={"name": name}), tmp_path / "w.safetensors")


@pytest.mark.faults
def test_without_a_network_the_line_names_the_source_and_what_to_do(monkeypatch, tmp_path):
    """What it advises, the file of timm in backbone.weights, then works."""

    def offline(name, pretrained=False, **options):
        if pretrained:
            raise ConnectionError("no network")
        return REAL(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        InputError,
        match=r"\(no network\).* model.safetensors from https://huggingface.co/timm/test_vit\S+ "
        r"and name the file in backbone.weights",
    ):
        fetch(CONFIG, tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())
    save_file(REAL(CONFIG.name).state_dict(), tmp_path / "model.safetensors")  # with its head
    load_backbone(CONFIG.model_copy(update={"weights": str(tmp_path / "model.safetensors")}))

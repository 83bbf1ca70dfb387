"""The table of networks, against timm."""

from importlib.metadata import version
from pathlib import Path

import pytest
import timm
import torch

from mmqsa.config import networks
from mmqsa.config.networks import TIMM, find_network

ROOT = Path(__file__).parents[2]


def test_the_table_is_of_the_version_of_timm_that_is_pinned():
    assert f"timm=={TIMM}\n" in (ROOT / "constraints.txt").read_text(), "python tools/networks.py"


@pytest.mark.parametrize(
    "name",
    [
        *("vit_small_patch16_224", "vit_base_patch14_reg4_dinov2", "vit_small_patch16_dinov3"),
        *("test_vit", "eva02_tiny_patch14_224", "deit_tiny_distilled_patch16_224"),
    ],
)
def test_rows_are_what_timm_has(name):
    with torch.device("meta"):
        made = timm.create_model(name, pretrained=False, num_classes=0)
    found = find_network(name)
    patch = made.patch_embed.patch_size[0]
    assert (found.patch, found.dim, found.depth) == (patch, made.embed_dim, len(made.blocks))
    assert found.tags[0] == timm.get_pretrained_cfg(name).tag
    tagged = timm.list_models(f"{name}.*", include_tags=True)
    assert sorted(found.tags) == [other.partition(".")[2] for other in tagged]


def test_names_that_timm_does_not_know(monkeypatch):
    for name, said in (
        ("vit_smal_patch16_224", "there is, for example, vit_small_patch16_224"),
        ("resnet50", "is no ViT of timm"),
        ("vit_base_r50_s16_224", "is no ViT of timm"),  # a hybrid
        ("vit_small_patch16_224.dinos", "augreg_in1k, augreg_in21k, dino; name one of them"),
    ):
        with pytest.raises(ValueError, match=said):
            find_network(name)
    monkeypatch.setattr(networks, "_table_is_complete", lambda: False)
    assert find_network("vit_of_tomorrow_patch16_224") is None
    assert find_network("vit_small_patch16_224.of_tomorrow") is None
    assert find_network("vit_small_patch16_224").dim == 384


def test_the_version_that_is_installed_decides():
    networks._table_is_complete.cache_clear()
    assert networks._table_is_complete() == (version("timm") == TIMM)

"""What no model can be is refused where the config enters, and where a model is built."""

from itertools import product

import pytest
import torch

from mmqsa.config.base import merged
from mmqsa.config.files import dump_yaml
from mmqsa.config.fits import num_parameters
from mmqsa.config.model import ModelConfig
from mmqsa.config.training import RunConfig
from mmqsa.config.workflow import Config
from mmqsa.errors import InputError
from mmqsa.model.masked_slot_model import MaskedSlotModel

SLOTS = {"num_slots": 3, "num_heads": 2, "slot_dim": 12, "mlp_dim": 10, "encoder_dim": 14}
DECODERS = (
    {"hidden_dim": 9, "layers": 3},
    {"kind": "transformer", "hidden_dim": 12, "layers": 2, "heads": 3, "orders": 9},
)


@pytest.mark.parametrize(
    "initialisation, reads, decoder",
    list(product(("learned", "fixed", "queries"), ("all", "block"), DECODERS)),
)
def test_parameters_are_those_of_the_model(initialisation, reads, decoder):
    slots = SLOTS | {"initialisation": initialisation, "reads": reads}
    config = ModelConfig.model_validate({"slots": slots, "decoder": decoder})
    with torch.device("meta"):
        model = MaskedSlotModel(config, num_patches=25, feature_dim=8)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert num_parameters(config, num_patches=25, feature_dim=8) == counted


FEW = {"evaluation": {"kmeans_clusters": [2], "cut_segments": [2]}}  # patches of small images
CLUSTERING = {"start": "clustering", "encoder_dim": 768, "slot_dim": 384}
IMPOSSIBLE = {
    "warm-up as long": (
        {"training": {"steps": 300, "schedule": {"warmup_steps": 300}}},
        "training.schedule.warmup_steps: 300 is not below training.steps, 300; set it to 30",
        {"training": {"schedule": {"warmup_steps": 30}}},
    ),
    "warm-up longer": (
        {"training": {"steps": 9, "schedule": {"warmup_steps": 10000}}},
        "training.schedule.warmup_steps: 10000 .* null for a tenth",
        {"training": {"schedule": {"warmup_steps": None}}},
    ),
    "side": (
        {"backbone": {"image_size": 300}},
        "backbone.image_size: 300 is no multiple of the patch, 16 px; use 304",
        {"backbone": {"image_size": 304}},
    ),
    "side of one patch": (
        {"backbone": {"image_size": 16}, **FEW},
        "backbone.image_size: 16 is not 2 to 512 times the patch, 16 px; use 32",
        {"backbone": {"image_size": 32}},
    ),
    "block": (
        {"backbone": {"blocks": [3, 12]}},
        "backbone.blocks: 12, but vit_small_patch16_224.dino has 12 blocks: 0 to 11",
        {"backbone": {"blocks": [3, 11]}},
    ),
    "name": (
        {"backbone": {"name": "vit_smal_patch16_224"}},
        "backbone.name: 'vit_smal_patch16_224' .* for example, vit_small_patch16_224",
        {"backbone": {"name": "vit_small_patch16_224"}},
    ),
    "family": ({"backbone": {"name": "resnet50"}}, "backbone.name: 'resnet50' is no ViT", {}),
    "weights": (
        {"backbone": {"pretrained": False, "weights": "a.pth"}},
        "backbone.weights: given, but backbone.pretrained is false; drop one",
        {"backbone": {"weights": None}},
    ),
    "no weights": (
        {"backbone": {"name": "vit_base_patch16_gap_224"}},
        "backbone.pretrained: timm has no weights of vit_base_patch16_gap_224; set it to false",
        {"backbone": {"pretrained": False}},
    ),
    "slot_dim": (
        {"slots": CLUSTERING | {"slot_dim": 192}},
        "slots.slot_dim: slots.start: clustering needs 384",
        {"slots": {"slot_dim": 384}},
    ),
    "encoder_dim": (
        {"slots": CLUSTERING | {"encoder_dim": 512}},
        "slots.encoder_dim: slots.start: clustering needs at least 768",
        {"slots": {"encoder_dim": 768}},
    ),
    "blocks beside each other": (
        {"slots": CLUSTERING, "backbone": {"blocks": [-2, -1]}},
        "slots.slot_dim: slots.start: clustering needs 768",
        {"slots": {"slot_dim": 768, "encoder_dim": 1536}},
    ),
    "heads of blocks": (
        {"slots": {"reads": "block", "num_heads": 3}, "backbone": {"blocks": [-2, -1]}},
        "slots.reads: block needs a head for each of backbone.blocks; set slots.num_heads to 2",
        {"slots": {"num_heads": 2}},
    ),
    "ratio": (
        {"masking": {"ratio": 0.9}, "backbone": {"image_size": 32}, **FEW},
        "masking.ratio: 0.9 of 4 patches leaves no patch; lower it to 0.75",
        {"masking": {"ratio": 0.75}},
    ),
    "decoder's heads": (
        {"decoder": {"kind": "transformer", "hidden_dim": 100}},
        "decoder.heads: 6 do not divide hidden_dim",
        {"decoder": {"hidden_dim": 96}},
    ),
    "size": (
        {"decoder": {"hidden_dim": 16384}},
        "slots, decoder: a model of 561,810,433 parameters",
        {"decoder": {"hidden_dim": 1024}},
    ),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_cannot_be_trained_is_refused_where_the_config_enters(case, tmp_path):
    """By the workflow's door and by the one of each command; with the advice both are open."""
    changes, said, advice = IMPOSSIBLE[case]
    path, better = tmp_path / "a.yaml", tmp_path / "b.yaml"
    path.write_text(dump_yaml(changes))
    better.write_text(dump_yaml(advice))
    with pytest.raises(InputError, match=f"config: {said}"):
        Config.parse(changes)
    with pytest.raises(InputError, match=said) as error:
        RunConfig.load(path)
    assert "\n" not in str(error.value) and str(error.value).startswith(str(path))
    if advice:
        RunConfig.load(path, better)
        Config.parse(merged(changes, advice))


def test_a_setting_that_is_run_must_be_possible_and_another_need_not():
    """So a training of few steps on top of config.yaml is no fault of settings that are not run."""
    settings = {"full": {}, "long": {"training": {"schedule": {"warmup_steps": 9000}}}}
    config = {"training": {"steps": 300}, "settings": settings, "grid": ["full"]}
    assert Config.parse(config).setting("long").training.steps == 300
    with pytest.raises(InputError, match=r"settings\.long\.training\.schedule\.warmup_steps: 9000"):
        Config.parse(config | {"grid": ["full", "long"]})

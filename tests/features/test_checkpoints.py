"""Whole checkpoints of small random networks give the tensors of plain files."""

import argparse
import re
from collections import OrderedDict

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from mmqsa.config.data import BackboneConfig
from mmqsa.errors import InputError
from mmqsa.features.backbone import load_backbone
from mmqsa.features.checkpoints import network_weights

TEST = "test_vit"  # of timm, 64 wide
DINO, REGISTERS = "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"


def random_network(name, seed=0, **size):
    """A network whose every tensor is random: none is the same in two networks."""
    torch.manual_seed(seed)
    network = timm.create_model(name, num_classes=0, **size)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.02)
    return network


@pytest.fixture(scope="module")
def network():
    return random_network(TEST)


@pytest.fixture(scope="module")
def state(network):
    return network.state_dict()


@pytest.fixture(scope="module")
def other(network):
    return random_network(TEST, seed=1).state_dict()


def below(prefix, state):
    return {f"{prefix}{key}": tensor for key, tensor in state.items()}


def heads(prefix):
    return {
        f"{prefix}head.mlp.0.weight": torch.zeros(4),
        f"{prefix}head.last_layer.bias": torch.zeros(4),
    }


def chunked(state, anew=False):
    """DINOv2's names where blocks are in chunks, ``blocks.CHUNK.BLOCK``, here of three."""

    def name(found):
        index = int(found[1])
        return f"blocks.{index // 3}.{index % 3 if anew else index}."

    return {re.sub(r"^blocks\.(\d+)\.", name, key): tensor for key, tensor in state.items()}


LAYOUTS = {
    "plain": lambda own, other: own,
    "with a head": lambda own, other: (
        own | {"head.weight": torch.zeros(9), "mask_token": torch.zeros(1)}
    ),
    "DINO": lambda own, other: {
        "student": below("module.backbone.", other) | heads("module."),
        "teacher": below("backbone.", own) | heads(""),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]},
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small", lr=5e-4, names=["a"], none=None),
        "dino_loss": {"center": torch.zeros(1, 4)},
    },
    "the student's alone": lambda own, other: {"student": below("module.backbone.", own)},
    "state_dict": lambda own, other: {"state_dict": own, "epoch": 3},
    "model": lambda own, other: {"model": own},
    "model_state_dict": lambda own, other: {"model_state_dict": OrderedDict(own)},
    "in a dictionary of two": lambda own, other: {"checkpoint": {"model": below("module.", own)}},
    "module": lambda own, other: below("module.", own),
    "module.backbone": lambda own, other: below("module.backbone.", own),
    "encoder": lambda own, other: below("encoder.", own),
    "teacher.backbone": lambda own, other: {
        "model": below("teacher.backbone.", own) | below("student.backbone.", other)
    },
    "any other": lambda own, other: below("vision.tower_3.", own),
    "compiled": lambda own, other: below("_orig_mod.", own),
    "compiled blocks": lambda own, other: {
        re.sub(r"^(blocks\.\d+)\.", r"\1._orig_mod.", key): tensor for key, tensor in own.items()
    },
    "timm's average": lambda own, other: {"state_dict": other, "state_dict_ema": own},
    "halves": lambda own, other: {"teacher": {key: value.half() for key, value in own.items()}},
    "an average in capitals": lambda own, other: {"model": other, "EMA": own},
    "parameters": lambda own, other: {
        "model": {key: torch.nn.Parameter(value) for key, value in own.items()}
    },
    "blocks in chunks": lambda own, other: {"teacher": below("backbone.", chunked(own))},
}


def same(found, expected, dtype=torch.float32):
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor.to(dtype).float()), key


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_the_tensors_of_the_plain_file(tmp_path, network, state, other, layout):
    content = LAYOUTS[layout](dict(state), other)
    torch.save(content, tmp_path / "checkpoint.pth")
    found = network_weights(tmp_path / "checkpoint.pth", network, TEST)
    same(found, state, torch.float16 if layout == "halves" else torch.float32)


def test_a_safetensors_file_may_have_prefixes_as_well(tmp_path, network, state):
    save_file(below("_orig_mod.teacher.backbone.", state), tmp_path / "w.safetensors")
    same(network_weights(tmp_path / "w.safetensors", network, TEST), state)


def test_one_notice_says_which_network_is_taken_and_counts_the_rest(
    tmp_path, network, state, other, capsys
):
    path = tmp_path / "dino.pth"
    torch.save(LAYOUTS["DINO"](dict(state), other), path)
    network_weights(path, network, TEST)
    unused = len(other) + 2 + 2 + 1 + 1  # the student, two heads, the optimiser's state, the centre
    assert capsys.readouterr().err == (
        f"{path}: takes the weights below 'teacher.backbone', not those below "
        f"'student.module.backbone'; not used: {unused} tensors, such as "
        "student.module.backbone.cls_token\n"
    )
    torch.save({"state_dict": state, "epoch": 3}, path)
    network_weights(path, network, TEST)
    assert capsys.readouterr().err == ""  # nothing is left out


def officially(state):
    """timm's DINOv2 with registers -> the names and the positions of the official file."""
    official = dict(state)
    official["register_tokens"] = official.pop("reg_token")
    # There the class token has a position; timm keeps the sum of the two.
    position = torch.full((1, 1, 384), 0.5)
    official["cls_token"] = official["cls_token"] - position
    official["pos_embed"] = torch.cat([position, official["pos_embed"]], dim=1)
    return official


def test_a_file_is_read_by_its_content(tmp_path, network, state):
    save_file(state, tmp_path / "pytorch_model.bin")
    torch.save(state, tmp_path / "model.safetensors")
    for name in ("pytorch_model.bin", "model.safetensors"):
        same(network_weights(tmp_path / name, network, TEST), state)


DINOV3 = "vit_small_patch16_dinov3"


@pytest.mark.parametrize("name, bias", [(DINOV3, 0.0), (DINOV3, 0.1), (f"{DINOV3}_qkvb", 0.1)])
def test_dinov3_as_its_authors_publish_it(tmp_path, name, bias):
    """timm drops its biases where the network has none, zero or not."""
    network = random_network(name)
    state = network.state_dict()
    names = {"gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma", "reg_token": "storage_tokens"}
    content = {"mask_token": torch.zeros(1), "rope_embed.periods": torch.zeros(16)}
    for key, tensor in state.items():
        for timms, theirs in names.items():
            key = key.replace(timms, theirs)
        content[key] = tensor
    for block in range(12):
        parts = [content.pop(f"blocks.{block}.attn.{part}_bias", None) for part in "qv"]
        query, value = (torch.full((384,), bias) if part is None else part for part in parts)
        whole = torch.cat([query, torch.ones(384), value])  # of keys: masked
        content[f"blocks.{block}.attn.qkv.bias"] = whole
    torch.save({"teacher": below("backbone.", content)}, tmp_path / "w.pth")
    if name == DINOV3 and bias:
        with pytest.raises(InputError, match=rf"has teacher\S+qkv.bias, and {name} has none"):
            network_weights(tmp_path / "w.pth", network, name)
    else:
        same(network_weights(tmp_path / "w.pth", network, name), state)


@pytest.mark.parametrize("masked", [{"mask_token": torch.zeros(1, 384)}, {}])
def test_dinov2_with_registers_as_its_authors_publish_it(tmp_path, masked):
    network = random_network(REGISTERS, img_size=56)
    state = network.state_dict()
    content = {"teacher": below("backbone.", chunked(officially(state)) | masked)}
    torch.save(content | {"iteration": 1}, tmp_path / "teacher_checkpoint.pth")
    found = network_weights(tmp_path / "teacher_checkpoint.pth", network, REGISTERS)
    cls_token = state.pop("cls_token")
    torch.testing.assert_close(found.pop("cls_token"), cls_token)
    same(found, state)


@pytest.mark.parametrize("name", [DINO, REGISTERS])
def test_positions_of_another_grid_are_taken_as_they_are(tmp_path, name):
    """A training of DINOv2 has 224 px; timm's network of that name has 518."""
    network = random_network(name, img_size=224)
    state = network.state_dict()
    content = officially(state) if name == REGISTERS else state
    torch.save({"teacher": below("backbone.", content)}, tmp_path / "w.pth")
    config = BackboneConfig(name=name, weights=str(tmp_path / "w.pth"), image_size=224)
    backbone = load_backbone(config)
    assert backbone.trained_grid == backbone.grid == 16
    images = torch.randn(1, 3, 224, 224)
    plain = tmp_path / "plain.pth"
    torch.save(state, plain)
    expected = load_backbone(config.model_copy(update={"weights": str(plain)}))
    torch.testing.assert_close(backbone.features(images), expected.features(images))
    with torch.inference_mode():
        tokens = network.eval().forward_features(images)[:, network.num_prefix_tokens :]
    whole = load_backbone(config.model_copy(update={"feature": "token"}))
    torch.testing.assert_close(whole.features(images), tokens)


def test_the_network_that_fits_is_taken_where_teacher_and_student_differ(tmp_path, network, state):
    """A distillation's teacher is larger."""
    large = {key: tensor.repeat_interleave(2, -1) for key, tensor in state.items()}
    torch.save({"teacher": large, "student": state}, tmp_path / "distilled.pth")
    same(network_weights(tmp_path / "distilled.pth", network, TEST), state)


def transformers(state):
    return {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.position_embeddings": state["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": torch.zeros(2),
        "encoder.layer.0.attention.attention.query.weight": torch.zeros(2),
    }


def deeper(state):
    return state | {key.replace("blocks.0.", "blocks.99."): state[key] for key in state}


REFUSED = {
    "of another library": (
        lambda own, other: transformers(own),
        r"has no cls_token; it has embeddings.cls_token, embeddings.position_embeddings, "
        r"\S+ and 1 more: .* Hugging Face's transformers; take timm's, model.safetensors from "
        r"https://huggingface.co/timm/test_vit",
    ),
    "of another network": (
        lambda own, other: {"model": {"conv1.weight": torch.zeros(1)}, "epoch": 1},
        r"has no cls_token; it has model.conv1.weight: these are not the weights of test_vit",
    ),
    "without tensors": (
        lambda own, other: {"epoch": 3, "args": argparse.Namespace()},
        r"holds no tensors by name; it has epoch, args",
    ),
    "two networks": (
        lambda own, other: below("query.", own) | below("momentum.", other),
        r"two networks like test_vit, below 'query' and below 'momentum'; save .* one of them",
    ),
    "a block too few": (
        lambda own, other: {"teacher": {key: own[key] for key in own if "blocks.5" not in key}},
        r"has no teacher.blocks.5.norm1.weight; these are not the weights of test_vit",
    ),
    "blocks too many": (
        lambda own, other: deeper(own),
        r"has blocks.99.norm1.weight, and test_vit has none; these are another network's weights",
    ),
    "names of megabytes": (
        lambda own, other: {"n" * 10**6: torch.zeros(1)},
        "has no cls_token; it has n{80}: these are not",
    ),
    "registers too many": (
        lambda own, other: own | {"register_tokens": torch.zeros(1, 4, 64)},
        r"has register_tokens, and test_vit has none; these are another network's weights",
    ),
    "another patch": (
        lambda own, other: {"teacher": own | {"patch_embed.proj.weight": torch.zeros(64, 3, 8, 8)}},
        r"patch_embed.proj.weight is \(64, 3, 8, 8\), test_vit has \(64, 3, 16, 16\)",
    ),
    "positions of no square": (
        lambda own, other: own | {"pos_embed": torch.zeros(1, 1 + 99, 64)},
        r"pos_embed is \(1, 100, 64\), test_vit has \(1, 101, 64\)",
    ),
    "blocks counted anew in each chunk": (
        lambda own, other: chunked(own, anew=True),
        r"counts its blocks anew in every chunk",
    ),
    "infinite": (
        lambda own, other: {"teacher": own | {"norm.bias": own["norm.bias"] / 0}},
        r"teacher.norm.bias is not finite",
    ),
    "of other objects": (
        lambda own, other: {"model": own, "best": np.float64(3)},
        r"it holds numpy\.\S+\.scalar, and Python objects are never loaded\); .*with torch.save",
    ),
}


@pytest.mark.faults
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_network_of_that_name_is_refused_in_a_line(
    tmp_path, network, state, other, kind
):
    make, said = REFUSED[kind]
    torch.save(make(dict(state), other), tmp_path / "w.pth")
    with pytest.raises(InputError, match=rf"w.pth: .*{said}") as refused:
        network_weights(tmp_path / "w.pth", network, TEST)
    assert "\n" not in str(refused.value)


@pytest.mark.faults
def test_the_advice_works(tmp_path, network, state, other):
    """A whole model, and two networks in one file: their tensors alone are read."""
    path = tmp_path / "w.pth"
    torch.save(network, path)
    with pytest.raises(InputError, match=r"holds timm.models.vision_transformer.VisionTransformer"):
        network_weights(path, network, TEST)
    torch.save(torch.load(path, weights_only=False).state_dict(), path)
    same(network_weights(path, network, TEST), state)
    torch.save({"query": state, "momentum": other}, path)
    torch.save(torch.load(path)["query"], path)
    same(network_weights(path, network, TEST), state)


@pytest.mark.faults
def test_dictionaries_in_circles_end(tmp_path, network, state):
    circle: dict = {"model": dict(state)}
    circle["model"]["again"] = circle
    circle["self"] = circle
    torch.save(circle, tmp_path / "w.pth")
    same(network_weights(tmp_path / "w.pth", network, TEST), state)

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from mmqsa.config.base import validated
from mmqsa.config.data import BackboneConfig
from mmqsa.errors import InputError
from mmqsa.features.backbone import load_backbone

TINY = "vit_tiny_patch16_224"


def random_backbone(**changes) -> BackboneConfig:
    return BackboneConfig(
        name=TINY, pretrained=False, image_size=64, mean=[0.5] * 3, std=[0.5] * 3, **changes
    )


def hooked(backbone, images, index):
    """Plain oracle: the whole network runs, a hook catches a block's fused projection."""
    caught = []
    handle = backbone.network.blocks[index].attn.qkv.register_forward_hook(
        lambda _module, _inputs, output: caught.append(output)
    )
    backbone.network.forward_features(images)
    handle.remove()
    return dict(zip(("query", "key", "value"), caught[0][:, 1:].chunk(3, dim=-1), strict=True))


@pytest.mark.parametrize("feature", ["query", "key", "value"])
@pytest.mark.parametrize("block", [-1, 3])
def test_projections_are_those_of_the_whole_network(feature, block):
    backbone = load_backbone(random_backbone(feature=feature, blocks=[block]))
    images = torch.randn(2, 3, 64, 64)
    found = backbone.features(images)
    assert found.shape == (2, 16, 192)
    torch.testing.assert_close(found, hooked(backbone, images, block)[feature])


def test_tokens_of_the_last_block_are_the_networks_output():
    backbone = load_backbone(random_backbone(feature="token"))
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        whole = backbone.network.forward_features(images)[:, 1:]
    torch.testing.assert_close(backbone.features(images), whole)


def test_random_weights_are_seeded_and_leave_the_global_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    hashes = [load_backbone(random_backbone(seed=seed)).weights_sha256 for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert torch.rand(1) == expected


def local(path) -> BackboneConfig:
    return BackboneConfig(name=TINY, weights=str(path), image_size=64)


@pytest.fixture(scope="module")
def state():
    return timm.create_model(TINY, num_classes=0).state_dict()


def test_local_weights_are_loaded_and_hashed(tmp_path, state):
    import hashlib

    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    backbone = load_backbone(local(path))
    assert backbone.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    torch.testing.assert_close(
        backbone.network.blocks[0].attn.qkv.weight, state["blocks.0.attn.qkv.weight"]
    )


def test_a_tensors_only_pth_file_is_loaded(tmp_path, state):
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    network = load_backbone(local(path)).network
    torch.testing.assert_close(network.blocks[0].attn.qkv.weight, state["blocks.0.attn.qkv.weight"])


def test_the_two_rules_for_position_embeddings(tmp_path, state):
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    embeddings = {}
    for rule in ("timm", "dino", "auto"):
        config = local(path).model_copy(update={"image_size": 320, "position_embedding": rule})
        embeddings[rule] = load_backbone(config).network.pos_embed
    square = state["pos_embed"][:, 1:].reshape(1, 14, 14, 192).permute(0, 3, 1, 2)
    dino = F.interpolate(square, scale_factor=20.1 / 14, mode="bicubic")
    torch.testing.assert_close(
        embeddings["dino"][:, 1:], dino.permute(0, 2, 3, 1).reshape(1, 400, 192)
    )
    assert torch.equal(embeddings["auto"], embeddings["timm"])  # not DINO's weights
    assert not torch.allclose(embeddings["dino"], embeddings["timm"])


@pytest.mark.parametrize("name", ["vit_small_patch16_224.dino", "vit_small_patch14_dinov2.lvd142m"])
def test_positions_of_dino_and_dinov2_are_those_of_their_code(name, tmp_path):
    """There, for w patches: interpolate(table, scale_factor=(w + 0.1) / sqrt(N), bicubic)."""
    network = timm.create_model(name, num_classes=0)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    patch, side = network.patch_embed.patch_size[0], 20 * network.patch_embed.patch_size[0]
    config = BackboneConfig(
        name=name, weights=str(tmp_path / "weights.safetensors"), image_size=side
    )
    table = network.pos_embed[:, 1:]
    root = int(table.shape[1] ** 0.5)
    square = table.reshape(1, root, root, -1).permute(0, 3, 1, 2)
    w0 = side // patch + 0.1
    theirs = F.interpolate(square, scale_factor=(w0 / root, w0 / root), mode="bicubic")
    theirs = theirs.permute(0, 2, 3, 1).view(1, -1, table.shape[2])
    ours = load_backbone(config).network.pos_embed
    torch.testing.assert_close(ours, torch.cat([network.pos_embed[:, :1], theirs], dim=1))


def test_unknown_backbone():
    with pytest.raises(InputError, match=r"backbone.name: timm knows no 'vit_tinny'"):
        load_backbone(BackboneConfig(name="vit_tinny"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet18", r"'resnet18' is a ResNet, not a ViT"),
        ("vit_small_r26_s32_224", r"has a HybridEmbed in front of its blocks, so .* not a hybrid"),
        ("vit_srelpos_small_patch16_224", r"is a VisionTransformerRelPos, not a ViT"),
        ("vit_base_patch16_rpn_224", r"is made of ResPostBlocks, whose features are not known"),
    ],
)
def test_networks_that_are_no_plain_vit_are_refused(name, said):
    with pytest.raises(InputError, match=said):
        load_backbone(BackboneConfig(name=name, pretrained=False))


# name, side, patches, D, prefix tokens, rule
FAMILIES = {
    "DINO": ("vit_small_patch16_224.dino", 64, 16, 384, 1, "dino"),
    "DINO, patch 8": ("vit_small_patch8_224.dino", 32, 16, 384, 1, "dino"),
    "DINOv2": ("vit_small_patch14_dinov2.lvd142m", 56, 16, 384, 1, "dino"),
    "DINOv2, registers": ("vit_small_patch14_reg4_dinov2.lvd142m", 56, 16, 384, 5, "timm"),
    "DINOv3": ("vit_small_patch16_dinov3.lvd1689m", 64, 16, 384, 5, "rotary"),
    "EVA-02": ("eva02_tiny_patch14_224.mim_in22k", 56, 16, 192, 1, "timm"),
    "MAE": ("vit_base_patch16_224.mae", 64, 16, 768, 1, "timm"),
    "CLIP": ("vit_base_patch16_clip_224.openai", 64, 16, 768, 1, "timm"),
    "supervised": (TINY, 64, 16, 192, 1, "timm"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_the_keys_of_its_own_formula(family):
    """The oracle: the whole network runs, and a hook sees what goes into a block's attention."""
    name, side, patches, dim, prefix, rule = FAMILIES[family]
    config = BackboneConfig(name=name, pretrained=False, image_size=side)
    backbone = load_backbone(config)
    network, images = backbone.network, torch.randn(2, 3, side, side)
    assert (backbone.feature_dim, backbone.position_rule) == (dim, rule)
    assert network.num_prefix_tokens == prefix
    attention = network.blocks[-1].attn
    with torch.no_grad():  # EVA-02 starts from biases of zero
        for name, parameter in attention.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    seen = []
    attention.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        network.forward_features(images)
        weight = attention.qkv.weight.chunk(3)[1]
        bias = None if attention.qkv.bias is None else attention.qkv.bias.chunk(3)[1]
        keys = F.linear(seen[0], weight, bias)[:, prefix:]
    found = backbone.features(images)
    assert found.shape == (2, patches, dim)
    torch.testing.assert_close(found, keys)


def resampled(embedding, old, rows, columns, rule):
    """Plain: the two formulas, on the part of the embedding that is of patches."""
    first, patches = embedding.split([embedding.shape[1] - old**2, old**2], dim=1)
    square = patches.unflatten(1, (old, old)).permute(0, 3, 1, 2)
    if rule == "dino":
        scales = ((rows + 0.1) / old, (columns + 0.1) / old)
        other = F.interpolate(square, scale_factor=scales, mode="bicubic")
    else:
        other = F.interpolate(square, (rows, columns), mode="bicubic", antialias=True)
    return torch.cat([first, other.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


@pytest.mark.parametrize("family", ["DINOv2", "DINOv3", "EVA-02", "supervised"])
def test_another_grid_has_the_features_of_a_network_made_for_it(family):
    name, side, *_, rule = FAMILIES[family]
    backbone = load_backbone(BackboneConfig(name=name, pretrained=False, image_size=side))
    square = torch.randn(1, 3, side, side)
    before = backbone.features(square)
    rows, columns = 3, 5
    size = (rows * backbone.patch, columns * backbone.patch)
    images = torch.randn(2, 3, *size)
    found = backbone.features(images)

    network = timm.create_model(name, num_classes=0, img_size=size).eval()
    state = dict(backbone.network.state_dict())
    if backbone.positions is not None:
        old = backbone.trained_grid
        state["pos_embed"] = resampled(backbone.positions, old, rows, columns, rule)
    network.load_state_dict(state)
    seen = []
    network.blocks[-1].attn.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        network.forward_features(images)
    attention = backbone.network.blocks[-1].attn
    weight = attention.qkv.weight.chunk(3)[1]
    bias = None if attention.qkv.bias is None else attention.qkv.bias.chunk(3)[1]
    expected = F.linear(seen[0], weight, bias)[:, network.num_prefix_tokens :]
    assert found.shape == (2, rows * columns, backbone.feature_dim)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(backbone.features(square), before)  # and back again


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3.lvd1689m", TINY])
def test_features_of_several_blocks(name):
    def features(**changes):
        config = BackboneConfig(name=name, pretrained=False, image_size=64, **changes)
        backbone = load_backbone(config)
        found = backbone.features(images)
        assert found.shape[-1] == backbone.feature_dim
        return found

    images = torch.randn(2, 3, 64, 64)
    for feature in ("key", "token"):
        first, last = (features(feature=feature, blocks=[block]) for block in (-4, -1))
        beside = features(feature=feature, blocks=[-4, -1])
        torch.testing.assert_close(beside, torch.cat([first, last], dim=-1))
        added = features(feature=feature, blocks=[-4, -1], combine="sum")
        torch.testing.assert_close(added, first + last)


def test_nothing_is_computed_after_the_last_block_that_is_asked_for():
    backbone = load_backbone(random_backbone(blocks=[2, 5]))
    ran = []
    for index, block in enumerate(backbone.network.blocks):
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    backbone.features(torch.zeros(1, 3, 64, 64))
    assert ran == [0, 1, 2, 3, 4]  # of block 5 only the norm and the projection


def test_side_that_is_no_multiple():
    config = random_backbone().model_copy(update={"image_size": 100})
    with pytest.raises(InputError, match=r"image_size: 100 is no multiple of the patch, 16 px"):
        load_backbone(config)


def test_block_that_is_not_there():
    with pytest.raises(InputError, match=r"backbone.blocks: 12, but .* has 12 blocks: 0 to 11"):
        load_backbone(random_backbone(blocks=[-1, 12]))


@pytest.mark.faults
def test_weights_of_another_network(tmp_path, state):
    path = tmp_path / "small.safetensors"
    save_file({name: tensor.repeat_interleave(2, dim=-1) for name, tensor in state.items()}, path)
    with pytest.raises(InputError, match=r"small.safetensors: .* these are another network's"):
        load_backbone(local(path))
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"has no cls_token; it has a: these are not the weights"):
        load_backbone(local(path))


SPOILED = {
    "complex": lambda tensor: tensor.to(torch.complex64),
    "sparse": lambda tensor: tensor.to_sparse(),
    "nested": lambda tensor: torch.nested.nested_tensor([tensor]),
    "quantised": lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
    "without numbers": lambda tensor: tensor.to("meta"),
    "whole": lambda tensor: tensor.to(torch.int8),
    "of one number": lambda tensor: torch.zeros(1).expand(10**12),
    "none": lambda tensor: None,
}


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", SPOILED)
def test_weights_that_are_no_plain_arrays(tmp_path, state, kind, recwarn):
    torch.save(state | {"norm.weight": SPOILED[kind](state["norm.weight"])}, tmp_path / "w.pth")
    recwarn.clear()
    with pytest.raises(InputError, match=r"w.pth: .*norm.weight|w.pth: not readable as weights"):
        load_backbone(local(tmp_path / "w.pth"))
    assert not recwarn.list


@pytest.mark.parametrize(
    "key, values",
    [("mean", [123.7, 116.3, 103.5]), ("std", [58.4, 57.1, 57.4]), ("std", [0, 0, 0])],
)
def test_colours_are_those_of_pixels_from_0_to_1(key, values):
    with pytest.raises(InputError, match=rf"backbone: {key}.0: .*than or equal"):
        validated(BackboneConfig, {key: values}, "backbone")


@pytest.mark.faults
def test_missing_truncated_and_pickled_weights(tmp_path, state):
    with pytest.raises(InputError, match=r"none.safetensors: no such file"):
        load_backbone(local(tmp_path / "none.safetensors"))
    path = tmp_path / "cut.safetensors"
    save_file(state, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cut.safetensors: not readable as weights"):
        load_backbone(local(path))

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match=r"evil.pth: not readable as weights"):
        load_backbone(local(tmp_path / "evil.pth"))
    assert not (tmp_path / "executed").exists()


@pytest.mark.faults
def test_pretrained_weights_that_cannot_be_had_are_an_error(monkeypatch):
    """Offline, a hub download fails: never a silent random network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    real = timm.create_model

    def offline(name, pretrained=False, **options):
        if pretrained:
            raise ConnectionError("no network")
        return real(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=r"could not be loaded \(no network\).*backbone.weights"):
        load_backbone(BackboneConfig())


def test_the_papers_backbone_with_random_weights():
    """DINO's weights cannot be had everywhere; the same network can."""
    backbone = load_backbone(BackboneConfig(pretrained=False, image_size=320))
    assert backbone.features(torch.zeros(1, 3, 320, 320)).shape == (1, 400, 384)
    assert (backbone.mean, backbone.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

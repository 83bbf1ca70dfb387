"""A frozen timm ViT, and the patch features of one of its blocks."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import timm
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers import build_sincos2d_pos_embed, resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from mmqsa.config.base import expand
from mmqsa.config.data import BackboneConfig
from mmqsa.errors import InputError

_ROWS = {"query": 0, "key": 1, "value": 2}  # the order inside timm's fused qkv projection
POSITION_STRENGTH = 0.2  # std of a random network's positions


@dataclass
class FrozenViT:
    """A ViT in evaluation mode, with what its features depend on.

    ``grid`` patches a side, D = ``feature_dim``. ``weights_sha256`` is the hash of a local file,
    else ``state_sha256``, that of all tensors in name order.
    """

    network: VisionTransformer
    feature: str
    block: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights_sha256: str
    state_sha256: str
    grid: int
    feature_dim: int

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, S, S) -> patch features (B, N, D), class token dropped.

        Keys, queries and values need only the norm and their own rows of the block's projection:
        the block's attention and MLP are never run, nor any later block.
        """
        network, blocks = self.network, list[Any](self.network.blocks)
        tokens = network.norm_pre(network._pos_embed(network.patch_embed(images)))
        for block in blocks[: self.block]:
            tokens = block(tokens)
        block = blocks[self.block]
        if self.feature == "token":
            tokens = block(tokens)
            if self.block == len(blocks) - 1:
                tokens = network.norm(tokens)
        else:
            projection = block.attn.qkv
            start = _ROWS[self.feature] * self.feature_dim
            rows = slice(start, start + self.feature_dim)
            bias = None if projection.bias is None else projection.bias[rows]
            tokens = F.linear(block.norm1(tokens), projection.weight[rows], bias)
        return tokens[:, network.num_prefix_tokens :]


def load_backbone(config: BackboneConfig) -> FrozenViT:
    """Build the network of ``config`` with its weights.

    Raises InputError on an unknown name, a side that is no multiple of the patch, or weights that
    are missing or of another network: there is never a silent random network.
    """
    try:
        native = _create(config, pretrained=False)
    except RuntimeError:
        near = ", ".join(timm.list_models(f"{config.name.split('_')[0]}_*patch16*")[:3])
        raise InputError(
            f"backbone.name: timm knows no {config.name!r}; "
            f"it has, for example, {near or 'vit_small_patch16_224'}"
        ) from None
    if not isinstance(native, VisionTransformer):
        raise InputError(
            f"backbone.name: {config.name!r} is a {type(native).__name__}, not a timm "
            "VisionTransformer; choose one of timm.list_models('vit_*')"
        )
    patch = native.patch_embed.patch_size[0]
    if config.image_size % patch:
        raise InputError(
            f"backbone.image_size: {config.image_size} is no multiple of the patch, {patch} px"
        )
    if not -len(native.blocks) <= config.block < len(native.blocks):
        raise InputError(
            f"backbone.block: {config.block}, but {config.name} has {len(native.blocks)} blocks"
        )
    weights, file_sha256 = backbone_weights(config, native)
    state_sha256 = _state_sha256(weights)
    grid = config.image_size // patch
    weights["pos_embed"] = _resample(weights["pos_embed"], grid, native, config)
    network = _create(config, pretrained=False, img_size=config.image_size)
    network.load_state_dict(weights)
    pretrained: Any = native.pretrained_cfg
    return FrozenViT(
        network=network.eval().requires_grad_(False),
        feature=config.feature,
        block=config.block % len(native.blocks),
        mean=tuple(config.mean or pretrained["mean"]),
        std=tuple(config.std or pretrained["std"]),
        weights_sha256=file_sha256 or state_sha256,
        state_sha256=state_sha256,
        grid=grid,
        feature_dim=network.embed_dim,
    )


def _create(config: BackboneConfig, pretrained: bool, **size: Any) -> Any:
    """Whatever network timm has of that name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return timm.create_model(config.name, pretrained=pretrained, num_classes=0, **size)


def backbone_weights(
    config: BackboneConfig, native: VisionTransformer | None = None
) -> tuple[dict[str, Tensor], str | None]:
    """State dict at the network's native size, and the sha256 of the file, where it is a file."""
    native = native or _create(config, pretrained=False)
    if not config.pretrained:
        if config.weights:
            raise InputError("backbone.weights: given, but backbone.pretrained is false; drop one")
        state = native.state_dict()
        state["pos_embed"] = _smooth_positions(native, state["pos_embed"])
        return state, None
    if config.weights:
        path = Path(expand(config.weights, "backbone.weights"))
        return _local_weights(path, native, config.name), _file_sha256(path)
    try:
        state = _create(config, pretrained=True).state_dict()
    except Exception as error:
        reason = shorten(str(error), 90, placeholder="…")
        pretrained: Any = native.pretrained_cfg
        hub = pretrained.get("hf_hub_id") or f"timm/{config.name}"
        raise InputError(
            f"backbone.name: the pretrained weights of {config.name!r} could not be loaded "
            f"({reason}); on a machine with the network fetch model.safetensors from "
            f"https://huggingface.co/{hub} and name the file in backbone.weights"
        ) from None
    return state, None


def _smooth_positions(native: VisionTransformer, embedding: Tensor) -> Tensor:
    """Sine-cosine positions for a random network, about as strong as its patch embeddings.

    A trained network's features carry position, and a spatial-broadcast decoder needs them to:
    slots that do not know where they are give masks that do not either, and all patches end in one
    slot. The tiny random positions that timm starts a training from carry next to none.
    """
    grid = native.patch_embed.grid_size
    table = build_sincos2d_pos_embed(list(grid), dim=native.embed_dim)
    prefix = embedding[:, : embedding.shape[1] - grid[0] * grid[1]]
    return torch.cat([prefix, POSITION_STRENGTH * (table / table.std())[None]], dim=1)


def _local_weights(path: Path, native: VisionTransformer, name: str) -> dict[str, Tensor]:
    """Weights from a .safetensors or a tensors-only .pth file, checked against the network."""
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:  # weights_only: a pickle that holds code is refused, never run
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; correct backbone.weights") from None
    except (SafetensorError, RuntimeError, OSError, EOFError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: not readable as weights ({reason})") from None
    except Exception as error:
        reason = f"not a plain tensor file: {type(error).__name__}"
        raise InputError(f"{path}: not readable as weights ({reason})") from None
    expected = native.state_dict()
    weights = {key: value.float() for key, value in state.items() if key in expected}
    for key, tensor in expected.items():
        if key not in weights:
            raise InputError(f"{path}: has no {key}; these are not the weights of {name}")
        shapes = tuple(weights[key].shape), tuple(tensor.shape)
        if shapes[0] != shapes[1]:
            raise InputError(
                f"{path}: {key} is {shapes[0]}, {name} has {shapes[1]}; "
                "these are another network's weights: correct backbone.name or backbone.weights"
            )
    return weights


def _resample(
    embedding: Tensor, grid: int, native: VisionTransformer, config: BackboneConfig
) -> Tensor:
    """Position embedding (1, prefix + g*g, D) for a grid of ``grid`` patches a side.

    ``dino``: bicubic by the scale factor (grid + 0.1) / g without antialiasing, as DINO's own code
    does; ``timm``: bicubic by size with antialiasing. They differ by about 6 % (measured), so
    features faithful to DINO need the first.
    """
    old = native.patch_embed.grid_size[0]
    if grid == old:
        return embedding
    rule = config.position_embedding
    if rule == "auto":
        rule = "dino" if config.name.endswith(".dino") else "timm"
    prefix = 0 if native.no_embed_class else native.num_prefix_tokens
    if rule == "timm":
        return resample_abs_pos_embed(embedding, [grid, grid], num_prefix_tokens=prefix)
    first, patches = embedding[:, :prefix], embedding[:, prefix:]
    square = patches.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    factor = (grid + 0.1) / old
    square = F.interpolate(square, scale_factor=(factor, factor), mode="bicubic")
    return torch.cat([first, square.permute(0, 2, 3, 1).reshape(1, grid * grid, -1)], dim=1)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state_sha256(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

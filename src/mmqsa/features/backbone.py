"""A frozen timm ViT, and the patch features of some of its blocks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mmqsa.config.data import BackboneConfig, check_sides
from mmqsa.errors import InputError
from mmqsa.features.checkpoints import position_grid
from mmqsa.features.positions import Rule, position_rule, resample
from mmqsa.features.weights import backbone_weights, create, state_sha256

__all__ = ["FrozenViT", "load_backbone"]

_ROWS = {"query": 0, "key": 1, "value": 2}  # the order inside timm's fused qkv projection


@dataclass
class FrozenViT:
    """A ViT in evaluation mode, with what its features depend on.

    ``blocks`` are counted from 0, in the order in which their features are put together. ``grid``
    patches a side of the config's square, D = ``feature_dim``. ``weights_sha256`` is the hash of a
    local file, else ``state_sha256``, that of all tensors in name order. ``positions`` are those of
    the ``trained_grid``, None where they are rotary.

    >>> config = BackboneConfig(name="vit_tiny_patch16_224", pretrained=False, image_size=64)
    >>> backbone = load_backbone(config)  # random weights
    >>> backbone.grid, backbone.feature_dim, backbone.blocks
    (4, 192, [11])
    >>> backbone.features(torch.zeros(2, 3, 64, 64)).shape  # of images as ``normalise`` gives them
    torch.Size([2, 16, 192])
    >>> backbone.features(torch.zeros(1, 3, 48, 80)).shape  # 3 x 5 patches: positions resampled
    torch.Size([1, 15, 192])
    """

    network: VisionTransformer | Eva
    config: BackboneConfig
    blocks: list[int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights_sha256: str
    state_sha256: str
    position_rule: Rule
    grid: int
    positions: Tensor | None
    trained_grid: int

    @property
    def patch(self) -> int:
        """Its side, px."""
        return self.config.image_size // self.grid

    @property
    def feature_dim(self) -> int:
        """D: the network's, times the number of blocks where they are concatenated."""
        several = len(self.blocks) if self.config.combine == "concatenate" else 1
        return several * self.network.embed_dim

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, h, w) -> patch features (B, N, D), prefix tokens dropped.

        Height and width are whole patches: those of the config's square, or any others.
        Keys, queries and values need only the norm and their own rows of a block's projection:
        the last block's attention and MLP are never run, nor any later block.
        """
        network: Any = self.network
        self._fit(images)
        tokens, rotary = network._pos_embed(network.patch_embed(images)), {}
        if isinstance(network, Eva):
            tokens, rope = tokens
            if rope is not None:
                mixed = getattr(network, "rope_mixed", False)  # positions that differ by block
                per_block = rope if mixed else [rope] * len(network.blocks)
                rotary = {index: {"rope": entry} for index, entry in enumerate(per_block)}
        tokens = network.norm_pre(tokens)
        of_block, last = {}, max(self.blocks)
        for index, block in enumerate(network.blocks[: last + 1]):
            if index in self.blocks and self.config.feature != "token":
                of_block[index] = self._projected(block, tokens)
                if index == last:
                    break
            tokens = block(tokens, **rotary.get(index, {}))
            if index in self.blocks and self.config.feature == "token":
                is_output = index == len(network.blocks) - 1
                of_block[index] = network.norm(tokens) if is_output else tokens
        chosen = [of_block[index][:, network.num_prefix_tokens :] for index in self.blocks]
        if self.config.combine == "concatenate":
            return torch.cat(chosen, dim=-1)
        return torch.stack(chosen).sum(dim=0)

    def _fit(self, images: Tensor) -> None:
        """Make the network one for images of this size, positions by the rule of its family."""
        network: Any = self.network
        height, width = images.shape[-2:]
        grid = (height // self.patch, width // self.patch)
        if grid == tuple(network.patch_embed.grid_size):
            return
        network.set_input_size((height, width))  # rotary positions as well
        if self.positions is not None:
            resampled = resample(self.positions, grid, self.trained_grid, self.position_rule)
            network.pos_embed = nn.Parameter(resampled.to(images.device), requires_grad=False)

    def _projected(self, block: Any, tokens: Tensor) -> Tensor:
        """Keys, queries or values of a block, before any rotation by position."""
        attention, dim = block.attn, self.network.embed_dim
        bias = attention.qkv.bias
        if getattr(attention, "q_bias", None) is not None:  # EVA-02, whose keys have none
            bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
        start = _ROWS[self.config.feature] * dim
        rows = slice(start, start + dim)
        weight = attention.qkv.weight[rows]
        return F.linear(block.norm1(tokens), weight, None if bias is None else bias[rows])


def load_backbone(config: BackboneConfig, fetched: Path | None = None) -> FrozenViT:
    """Build the network of ``config`` with its weights, those of timm from the file ``fetched``.

    Raises InputError on an unknown name, a network of another family, a side that is no multiple of
    the patch, or weights that are missing or of another network: there is never a silent random
    network.

    >>> load_backbone(BackboneConfig(name="vit_tiny_patch16_224", pretrained=False)).grid
    20
    >>> load_backbone(BackboneConfig(name="vit_tiny_patch16_224", pretrained=False, image_size=30))
    Traceback (most recent call last):
    mmqsa.errors.InputError: backbone.image_size: 30 is no multiple of the patch, 16 px; use 32
    """
    native = native_network(config)
    patch = native.patch_embed.patch_size[0]
    depth = len(native.blocks)
    try:
        check_sides(config, patch, depth)
    except ValueError as error:
        raise InputError(str(error)) from None
    weights, file_sha256 = backbone_weights(config, native, fetched)
    digest = state_sha256(weights)
    grid, rule = config.image_size // patch, position_rule(config, native)
    positions, trained_grid = weights.get("pos_embed"), native.patch_embed.grid_size[0]
    if positions is not None:
        trained_grid = position_grid(positions, native)
        weights["pos_embed"] = resample(positions, (grid, grid), trained_grid, rule)
    network = create(config, pretrained=False, img_size=config.image_size)
    network.load_state_dict(weights)
    pretrained: Any = native.pretrained_cfg
    return FrozenViT(
        network=network.eval().requires_grad_(False),
        config=config,
        blocks=[block % depth for block in config.blocks],
        mean=tuple(config.mean or pretrained["mean"]),
        std=tuple(config.std or pretrained["std"]),
        weights_sha256=file_sha256 or digest,
        state_sha256=digest,
        position_rule=rule,
        grid=grid,
        positions=positions,
        trained_grid=trained_grid,
    )


def native_network(config: BackboneConfig) -> Any:
    """timm's network of that name at its own size, without its weights. Raises InputError."""
    try:
        native = create(config, pretrained=False)
    except RuntimeError:
        near = ", ".join(timm.list_models(f"{config.name.split('_')[0]}_*patch16*")[:3])
        raise InputError(
            f"backbone.name: timm knows no {config.name!r}; "
            f"it has, for example, {near or 'vit_small_patch16_224'}"
        ) from None
    check_family(config, native)
    return native


def check_family(config: BackboneConfig, native: Any) -> None:
    """Raises InputError unless ``native`` is a plain ViT, or timm's Eva, on square patches."""
    if not isinstance(native, VisionTransformer | Eva):
        raise InputError(
            f"backbone.name: {config.name!r} is a {type(native).__name__}, not a ViT; choose one "
            "of timm.list_models('vit_*') or timm.list_models('eva02_*')"
        )
    if not isinstance(native.patch_embed, PatchEmbed):
        raise InputError(
            f"backbone.name: {config.name!r} has a {type(native.patch_embed).__name__} in front of "
            "its blocks, so its tokens are no patches; choose a ViT that is not a hybrid"
        )
    block = type(native.blocks[0]).__name__
    if block not in ("Block", "EvaBlock"):
        raise InputError(
            f"backbone.name: {config.name!r} is made of {block}s, whose features are not known "
            "here; choose a ViT of plain blocks"
        )

"""Position embeddings of a ViT at another grid than it was trained on.

Every family has its own rule, and another family's moves the features by some percent:

dino    DINO, and DINOv2 without registers: bicubic by the scale factor (grid + 0.1) / g, without
        antialiasing, as their code does
timm    all others, DINOv2 with registers too: bicubic by size, with antialiasing
rotary  nothing to resample: positions are computed for any grid (DINOv3)
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.layers import build_sincos2d_pos_embed, resample_abs_pos_embed
from torch import Tensor

from mmqsa.config.data import BackboneConfig
from mmqsa.features.grids import Grid

Rule = Literal["dino", "timm", "rotary"]
POSITION_STRENGTH = 0.2  # std of a random network's positions


def position_rule(config: BackboneConfig, native: Any) -> Rule:
    """The rule of ``position_embedding``; ``auto`` is that of the weights' family."""
    if native.pos_embed is None:
        return "rotary"
    if config.position_embedding != "auto":
        return config.position_embedding
    name, _, tag = config.name.partition(".")
    dinov2 = name.endswith("_dinov2") and "_reg" not in name
    return "dino" if tag == "dino" or dinov2 else "timm"


def resample(embedding: Tensor, grid: Grid, old: int, rule: Rule) -> Tensor:
    """Position embedding (1, prefix + g*g, D), of ``old`` = g patches a side, for another grid."""
    if grid == (old, old):
        return embedding
    prefix = embedding.shape[1] - old**2
    if rule == "timm":
        return resample_abs_pos_embed(embedding, list(grid), num_prefix_tokens=prefix)
    first, patches = embedding[:, :prefix], embedding[:, prefix:]
    square = patches.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    factors = tuple((length + 0.1) / old for length in grid)
    resized = F.interpolate(square, scale_factor=factors, mode="bicubic")
    return torch.cat([first, resized.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def smooth_positions(native: Any, embedding: Tensor) -> Tensor:
    """Sine-cosine positions for a random network, about as strong as its patch embeddings.

    A trained network's features carry position, and a spatial-broadcast decoder needs them to:
    slots that do not know where they are give masks that do not either, and all patches end in one
    slot. The tiny random positions that timm starts a training from carry next to none.
    """
    grid = native.patch_embed.grid_size
    table = build_sincos2d_pos_embed(list(grid), dim=native.embed_dim)
    prefix = embedding[:, : embedding.shape[1] - grid[0] * grid[1]]
    return torch.cat([prefix, POSITION_STRENGTH * (table / table.std())[None]], dim=1)

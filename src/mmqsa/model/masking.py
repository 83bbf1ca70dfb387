"""Which patches a training step leaves visible to the slots."""

from typing import Literal

import torch
from torch import Tensor

Strategy = Literal["none", "random", "background", "foreground"]


def visible_patches(
    keys: Tensor, strategy: Strategy, ratio: float, uniform: Tensor | None = None
) -> Tensor:
    """Keys (B, N, D) -> indices (B, V) of the patches that stay visible.

    Of every image V = P - round(ratio * P) patches stay. ``background`` hides those whose mean
    over the feature axis is highest (paper, section III); ``foreground`` those where it is lowest;
    ``random`` keeps the lowest of ``uniform`` draws (B, N); ``none`` hides none at any ratio.
    """
    images, patches, _ = keys.shape
    if strategy == "none":
        return torch.arange(patches, device=keys.device).expand(images, patches)
    if strategy == "random":
        assert uniform is not None
        score = uniform
    else:
        score = keys.float().mean(dim=-1)
        if strategy == "foreground":
            score = -score
    return score.topk(patches - round(ratio * patches), dim=1, largest=False).indices

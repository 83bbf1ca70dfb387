"""Which patches a training step leaves visible to the slots."""

from typing import Literal

import torch
from torch import Tensor

Strategy = Literal["none", "random", "background", "foreground"]


def visible_patches(
    keys: Tensor, strategy: Strategy, ratio: float, generator: torch.Generator
) -> Tensor:
    """Keys (B, P, D) -> indices (B, V) of the patches that stay visible.

    Of every image V = P - round(ratio * P) patches stay. ``background`` hides those whose mean
    over the feature axis is highest (paper, section III); ``foreground`` those where it is lowest;
    ``random`` any; ``none`` hides no patch, whatever the ratio.
    """
    images, patches, _ = keys.shape
    if strategy == "none":
        return torch.arange(patches, device=keys.device).expand(images, patches)
    if strategy == "random":
        score = torch.rand(images, patches, generator=generator, device=keys.device)
    else:
        score = keys.float().mean(dim=-1)
        if strategy == "foreground":
            score = -score
    return score.topk(patches - round(ratio * patches), dim=1, largest=False).indices

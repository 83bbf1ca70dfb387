"""Which patches a training step leaves visible to the slots."""

import torch
from torch import Tensor

from mmqsa.config.model import MaskingStrategy


def visible_patches(
    features: Tensor, strategy: MaskingStrategy, ratio: float, uniform: Tensor | None = None
) -> Tensor:
    """Features (B, N, D) -> indices (B, V) of the patches that stay visible.

    ``background`` hides the patches whose mean over the feature axis is highest (paper, section
    III); ``foreground`` those where it is lowest; ``random`` keeps those with the lowest of the
    ``uniform`` draws (B, N); ``none`` hides none at any ratio.

    round(ratio * N) patches are hidden in every image. The released code truncates the number of
    visible ones, in floating point, and so hides one more at two of the paper's ratios: of N = 400
    patches, 0.8 and 0.9 hide 320 and 360 here, and 321 and 361 there.
    """
    num_images, num_patches, _ = features.shape
    if strategy == "none":
        return torch.arange(num_patches, device=features.device).expand(num_images, num_patches)
    if strategy == "random":
        assert uniform is not None
        score = uniform
    else:
        score = features.float().mean(dim=-1)
        if strategy == "foreground":
            score = -score
    return score.topk(num_patches - round(ratio * num_patches), dim=1, largest=False).indices

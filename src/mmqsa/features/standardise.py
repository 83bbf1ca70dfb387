"""The mean and std of a training set's features."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mmqsa.features.cache import Rows

BLOCK = 128  # images at a time


def feature_statistics(
    features: Tensor | np.ndarray | Rows, per: Literal["none", "feature", "position"]
) -> tuple[Tensor, Tensor]:
    """Features (num_images, N, D) -> mean (N, D) and std (1, D), float32, in bounded memory.

    ``feature``: mean and std of each feature over images and patches. ``position``: each position
    has a mean of its own (features carry position, which a decoder can explain without looking at
    the image); the std is still one per feature. ``none``: 0 and 1.
    """
    num_images, num_patches, feature_dim = features.shape
    if per == "none":
        return torch.zeros(num_patches, feature_dim), torch.ones(1, feature_dim)
    device = features.device if isinstance(features, Tensor) else None
    total = torch.zeros(num_patches, feature_dim, dtype=torch.float64, device=device)
    square = torch.zeros_like(total)
    for start in range(0, num_images, BLOCK):
        block = features[start : start + BLOCK]
        block = (block if isinstance(block, Tensor) else torch.tensor(block)).double()
        total += block.sum(dim=0)
        square += block.square().sum(dim=0)
    mean, square = total / num_images, square / num_images
    if per == "feature":
        mean = mean.mean(dim=0, keepdim=True).expand_as(mean)
    variance = (square - mean.square()).mean(dim=0, keepdim=True)
    return mean.float(), variance.clamp_min(1e-12).sqrt().float()

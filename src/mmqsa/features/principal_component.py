"""The direction of features in which background and objects differ most, found without labels."""

import numpy as np
import torch
from torch import Tensor

from mmqsa.features.cache import Rows

BLOCK = 128  # images at a time
IMAGES = 4000  # to find it on, evenly from the whole


def background_direction(features: Tensor | np.ndarray | Rows) -> Tensor:
    """Features (num_images, N, D) of a training set -> weights (D,); features @ weights is a score
    that is high for background.

    The score is the first principal component of the features, each divided by its std, over images
    and patches. A component's sign is a matter of chance, so the side that covers more of the
    images' borders is taken for background.
    """
    num_images, num_patches, dim = features.shape
    device = features.device if isinstance(features, Tensor) else None
    every = -(-num_images // IMAGES)
    square = torch.zeros(dim, dim, dtype=torch.float64, device=device)
    at_patch = torch.zeros(num_patches, dim, dtype=torch.float64, device=device)
    count = 0
    for start in range(0, num_images, BLOCK * every):
        block = features[start : start + BLOCK * every : every]
        block = (block if isinstance(block, Tensor) else torch.tensor(block)).float()
        flat = block.flatten(0, 1)
        square += flat.T @ flat
        at_patch += block.sum(dim=0)
        count += len(block)
    at_patch, square = at_patch / count, square / (count * num_patches)
    centre = at_patch.mean(dim=0)
    covariance = square - torch.outer(centre, centre)
    std = covariance.diagonal().clamp_min(1e-12).sqrt()
    component = torch.linalg.eigh(covariance / torch.outer(std, std)).eigenvectors[:, -1]
    weights = component / std
    apart = at_patch[border(round(num_patches**0.5))].mean(dim=0) - centre
    return (weights if apart @ weights > 0 else -weights).float()


def border(grid: int) -> Tensor:
    """Which of the N patches lie on the border of the image: (N,) bool."""
    inside = torch.zeros(grid, grid, dtype=torch.bool)
    inside[1:-1, 1:-1] = True
    return ~inside.flatten()

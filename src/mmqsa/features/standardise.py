"""The mean and deviation of a training set's keys."""

from typing import Literal

import torch
from torch import Tensor


def key_statistics(
    keys: Tensor, per: Literal["none", "feature", "position"]
) -> tuple[Tensor, Tensor]:
    """Keys (N, P, D) -> mean (P, D) and deviation (1, D), float32, in bounded memory.

    ``feature``: mean and deviation of each feature over images and patches. ``position`` subtracts
    each position's own mean instead (keys carry position, which a decoder can explain without
    looking at the image); the deviation is still one per feature. ``none``: 0 and 1.
    """
    images, patches, width = keys.shape
    if per == "none":
        return torch.zeros(patches, width), torch.ones(1, width)
    total = torch.zeros(patches, width, dtype=torch.float64, device=keys.device)
    square = torch.zeros_like(total)
    for block in keys.split(256):
        block = block.double()
        total += block.sum(dim=0)
        square += block.square().sum(dim=0)
    mean, square = total / images, square / images
    if per == "feature":
        mean = mean.mean(dim=0, keepdim=True).expand_as(mean)
    variance = (square - mean.square()).mean(dim=0, keepdim=True)
    return mean.float(), variance.clamp_min(1e-12).sqrt().float()
